"""How files become pixels: large images whole or smaller, colours converted or as they are."""

import dataclasses
from typing import Literal

Decode = Literal["full", "scaled"]
ColorProfiles = Literal["convert", "ignore"]
Decoding = Literal["auto", "full", "scaled"]  # as requested; `auto`: as the model was trained
ENOUGH = 2  # the shorter side of a scaled image is at least so many network sides long


@dataclasses.dataclass(frozen=True)
class DecodeOptions:
    """How files become pixels; `side` is the network's, None to decode images whole.

    With `convert`, images that declare another colour space than sRGB are converted to it.
    """

    side: int | None = None
    color_profiles: ColorProfiles = "ignore"

    def factor(self, size: tuple[int, int]) -> int:
        """How many pixels become one in each direction; 1 where the image is decoded whole.

        Of the factors that leave enough, down to half the largest, the one that cuts off least.
        """
        largest = max(min(size) // (ENOUGH * self.side) if self.side else 1, 1)
        factors = range(largest, largest // 2, -1)
        return min(factors, key=lambda factor: size[0] % factor + size[1] % factor)


WHOLE = DecodeOptions()
