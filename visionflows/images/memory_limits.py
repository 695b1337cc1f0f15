"""How much memory images may take: each of them, and all that are decoded at once.

Decoding takes 8 to 28 bytes a pixel, by mode and format, so a limit on pixels is not enough.
Images share half of the machine's memory; a large one waits until there is room.
"""

import contextlib
import functools
import math
import os
import threading
from collections.abc import Iterator
from typing import Any

from PIL import Image

from visionflows.images.image_status import BadImage
from visionflows.system import memory_bytes

MAX_PIXELS = 200_000_000  # those of the largest phones; decoded, 600 MB
MAX_FILE_BYTES = 1 << 30  # 150 million pixels of 16 bits a channel take 900 MB
UNIT = 16 << 20  # bytes in which memory is reserved
# Bytes a pixel that a decoder holds besides the image; measured with each format.
_JPEG2000, _PROGRESSIVE = 6, 2  # for each band
_DECODERS = {"WEBP": 18, "AVIF": 12, "TIFF": 8, "GIF": 8, "HEIF": 8}
_OTHER_DECODERS = 4
COSTLIEST = 28  # bytes a pixel: JPEG 2000 with four bands


def decoding_bytes(image: Image.Image) -> int:
    """The most bytes that an opened image takes until it is network input.

    First the image in its own mode and what its decoder holds, then the image, its RGB, and that
    once more, turned or cropped. A JPEG decoded at a fraction of its size is small, but a
    progressive one's decoder holds all of its coefficients.
    """
    mode, bands = image.mode, len(image.getbands())
    depth = 2 if mode.startswith("I;16") else 1 if mode in ("1", "L", "P") else 4
    decoder = _DECODERS.get(image.format or "", _OTHER_DECODERS)
    if image.format == "JPEG2000":
        decoder = _JPEG2000 * bands
    elif image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        decoder = _PROGRESSIVE * bands * _draft_scale(image) ** 2
    return image.width * image.height * (depth + max(decoder, 4 if mode == "RGB" else 8))


def _draft_scale(image: Image.Image) -> int:
    """How many pixels of a JPEG become one in each direction, as set by Pillow's draft."""
    config: tuple[int, ...] = getattr(image, "decoderconfig", ())
    return config[0] if config and image.format in ("JPEG", "MPO") else 1


class MemoryLimits:
    """Limits of one file (`encoded` bytes) and one image (`max_pixels`, and `decoded` bytes).

    `decoded` is half of the machine's memory, or what the costliest image of `max_pixels` takes if
    that is less, so that all machines with enough memory have the same limit. All images at once
    take at most half of the memory, all files an eighth. Larger files than `ahead` are read only
    when it is their turn. `locks` makes the locks: the module `threading`, or a multiprocessing
    context for processes forked from this one.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, decoders: int = 1, locks: Any = threading):
        total, self.max_pixels = memory_bytes(), max_pixels
        self.encoded = min(total // 16, MAX_FILE_BYTES)
        self.decoded = min(total // 2, COSTLIEST * max_pixels)
        self.ahead = min(max(total // 128 // decoders, 4 << 20), 64 << 20, self.encoded)
        self.ahead_together = total // 8
        self.images = _SharedMemory(total // 2, locks)
        self.files = _SharedMemory(self.ahead_together, locks)

    def reserve_image(self, image: Image.Image) -> contextlib.AbstractContextManager[None]:
        """Reserve memory to decode an opened image, for the block. Raises BadImage, as `needed`."""
        return self.images.reserve(self.needed(image))

    def needed(self, image: Image.Image) -> int:
        """The bytes to decode an opened image. Raises BadImage if it or its pixels are too many."""
        width, height = image.size
        if width * height > self.max_pixels:
            reason = (
                f"{width}×{height} pixels, more than the limit of {self.max_pixels:,}; "
                f"--max-pixels {width * height} raises it"
            )
            raise BadImage("too_large", reason)
        needed = decoding_bytes(image)
        if needed > self.decoded:
            width, height = (_draft_scale(image) * side for side in image.size)
            reason = (
                f"{width}×{height} pixels ({image.format}, {image.mode}) take {needed / 1e6:,.0f} "
                f"MB to decode, more than the limit of {self.decoded / 1e6:,.0f} MB"
            )
            raise BadImage("too_large", reason)
        return needed

    def limits(self) -> dict[str, int]:
        """The limits of an image, as run.json records them."""
        in_bytes = {"max_file_bytes": self.encoded, "max_decoding_bytes": self.decoded}
        return {"max_pixels": self.max_pixels, **in_bytes}


@functools.cache
def shared_memory_limits(max_pixels: int) -> MemoryLimits:
    """The limits shared by all of this process that do not bring their own."""
    return MemoryLimits(max_pixels)


# A forked child has none of its parent's threads, which hold reservations.
os.register_at_fork(after_in_child=shared_memory_limits.cache_clear)


class _SharedMemory:
    """Memory that is reserved in units; a reservation waits until enough is free."""

    def __init__(self, size: int, locks: Any):
        self._units = max(size // UNIT, 1)
        self._free, self._turn = locks.Semaphore(self._units), locks.Lock()

    @contextlib.contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Reserve bytes for the block; waits until there is room."""
        units, taken = min(max(math.ceil(size / UNIT), 1), self._units), 0
        try:
            with self._turn:  # one gathers at a time: two could each hold what the other lacks
                while taken < units:
                    self._free.acquire()
                    taken += 1
            yield
        finally:
            for _ in range(taken):
                self._free.release()
