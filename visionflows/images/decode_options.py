"""How files become pixels: what a model was trained with, and is therefore scored with.

    from visionflows.images.decode_options import Opening
    Opening(side=224).factor((4032, 3024))           # 6: of 6 × 6 pixels each becomes one

It stands in model.json. A bundle from before it did keeps what it was trained with.
"""

import dataclasses
from typing import Literal

Transparency = Literal["white", "dropped"]
Depth = Literal["declared", "guessed"]
Decode = Literal["full", "scaled"]
Decoding = Literal["auto", "full", "scaled"]  # what is asked for; `auto`: as the model says
ENOUGH = 2  # times the network's side: what the shorter side of a scaled picture keeps at least


@dataclasses.dataclass(frozen=True)
class DecodeOptions:
    """How files become pixels.

    `transparency`: laid on white, or dropped, which shows the colours that lie unseen.
    `depth`: deep greys by what their file declares, or by a guess from the brightest pixel.
    `side`: of a network's square; a picture far larger is decoded smaller. None: decoded whole.
    """

    transparency: Transparency = "white"
    depth: Depth = "declared"
    side: int | None = None

    @property
    def told(self) -> dict[str, str]:
        """The same for model.json."""
        decode: Decode = "full" if self.side is None else "scaled"
        return {"transparency": self.transparency, "depth": self.depth, "decode": decode}

    def factor(self, size: tuple[int, int]) -> int:
        """How many pixels of a picture become one each way; 1 where it is decoded whole.

        Of the factors that leave its shorter side long enough, down to half the largest, the one
        that leaves least over: what is left over is cut off.
        """
        most = min(size) // (ENOUGH * self.side) if self.side else 1
        factors = range(max(most, 1), max(most, 1) // 2, -1)
        return min(factors, key=lambda factor: size[0] % factor + size[1] % factor)


WHOLE = DecodeOptions()
# Of models from before any of it was recorded.
BEFORE = DecodeOptions("dropped", "guessed", None)
