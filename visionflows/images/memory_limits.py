"""How much memory pictures may take: one of them, and all that are decoded at once.

    from visionflows.images.memory_limits import Memory
    memory = Memory(max_pixels)
    memory.check(image)                              # BadImage, where it alone would take too much
    with memory.picture(image): image.load()         # waits until there is room

A limit on pixels alone does not limit memory: what decoding takes is 8 to 28 bytes a pixel, by mode
and format. A limit on each decoder's share alone would refuse a large picture wherever there are
many cores; so pictures share half the machine's memory, and a large one waits for its turn.
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

# A 100-megapixel camera's picture passes; decoded it takes 300 MB.
MAX_PIXELS = 100_000_000
MOST_ENCODED = 1 << 30  # bytes of a file: 100 million pixels with 16 bits a channel take 600 MB
UNIT = 16 << 20  # bytes; what room is counted in
# Bytes a pixel that a format's own decoder holds beside the picture; measured with each.
_JPEG2000, _PROGRESSIVE = 6, 2  # a band
_DECODERS = {"WEBP": 18, "AVIF": 12, "TIFF": 8, "GIF": 8, "HEIF": 8}
_PLAIN = 4
COSTLIEST = 28  # bytes a pixel: JPEG 2000 with four bands


def decoding_bytes(image: Image.Image) -> int:
    """How many bytes an opened picture will take at most until it is a square for a network.

    First the picture in its own mode and what its decoder holds; then the same picture, its RGB,
    and that once more, turned or cut. Of a JPEG that is decoded at a fraction of its size the
    picture is small, and what a progressive one's decoder holds is not.
    """
    mode, bands = image.mode, len(image.getbands())
    depth = 2 if mode.startswith("I;16") else 1 if mode in ("1", "L", "P") else 4
    own = _DECODERS.get(image.format or "", _PLAIN)
    if image.format == "JPEG2000":
        own = _JPEG2000 * bands
    elif image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        own = _PROGRESSIVE * bands * _scale(image) ** 2  # all coefficients, until the last scan
    return image.width * image.height * (depth + max(own, 4 if mode == "RGB" else 8))


def _scale(image: Image.Image) -> int:
    """How many pixels of a JPEG become one each way, as Pillow's draft was asked."""
    checkpoint: tuple[int, ...] = getattr(image, "decoderconfig", ())
    return checkpoint[0] if checkpoint and image.format in ("JPEG", "MPO") else 1


class MemoryLimits:
    """What one file (`encoded`, in bytes) and one picture (`decoded`) may take, and all at once.

    `decoded` is half the memory of this machine, or what the costliest picture of `max_pixels`
    takes if that is less, so that machines with enough memory have the same limit. `ahead` is how
    large a file may be to be read before its turn. `kind` makes locks: the module `threading`, or
    a context of multiprocessing for processes that are forked from this one.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, decoders: int = 1, kind: Any = threading):
        total = memory_bytes()
        self.encoded = min(total // 16, MOST_ENCODED)
        self.decoded = min(total // 2, COSTLIEST * max_pixels)
        self.ahead = min(max(total // 128 // decoders, 4 << 20), 64 << 20, self.encoded)
        self.ahead_together = total // 8
        self._pictures = _Room(total // 2, kind)
        self._files = _Room(total // 8, kind)

    def check(self, image: Image.Image) -> None:
        """Nothing for an opened picture that may be decoded. Raises BadImage, `too_large`."""
        need = decoding_bytes(image)
        if need > self.decoded:
            width, height = (_scale(image) * side for side in image.size)
            reason = (
                f"{width}×{height} pixels ({image.format}, {image.mode}) take "
                f"{_mb(need)} to decode, more than the limit of {_mb(self.decoded)}"
            )
            raise BadImage("too_large", reason)

    def picture(self, image: Image.Image) -> contextlib.AbstractContextManager[None]:
        """Room for an opened picture, for the block."""
        return self._pictures.of(decoding_bytes(image))

    def file(self, size: int) -> contextlib.AbstractContextManager[None]:
        """Room for the bytes of a file too large to be read ahead, for the block."""
        return self._files.of(size)

    def limits(self) -> dict[str, int]:
        """The limits in force, in bytes, as a run records them."""
        return {"max_file_bytes": self.encoded, "max_decoding_bytes": self.decoded}


@functools.cache
def shared_memory_limits(max_pixels: int) -> MemoryLimits:
    """What all in this process share that are given nothing else."""
    return MemoryLimits(max_pixels)


# A forked child's threads are not those that hold its parent's room.
os.register_at_fork(after_in_child=shared_memory_limits.cache_clear)


class _Room:
    """Memory that is lent in units; whoever asks for more than is free waits."""

    def __init__(self, size: int, kind: Any):
        self._all = max(size // UNIT, 1)
        self._free, self._turn = kind.Semaphore(self._all), kind.Lock()

    @contextlib.contextmanager
    def of(self, size: int) -> Iterator[None]:
        units, taken = min(max(math.ceil(size / UNIT), 1), self._all), 0
        try:
            with self._turn:  # one gathers at a time: two could each hold what the other lacks
                while taken < units:
                    self._free.acquire()
                    taken += 1
            yield
        finally:
            for _ in range(taken):
                self._free.release()


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
