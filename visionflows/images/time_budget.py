"""How much CPU time a file may take, by its bytes and pixels.

    budget = seconds(len(data), width * height)

Sound files take a small part of it. The time is that of the decoding thread or process, so that a
busy machine changes no row.
"""

import io
import time

from visionflows.images.image_status import BadImage

BASE = 5.0  # seconds of any file
PER_MEGABYTE = 0.1  # seconds
PER_MEGAPIXEL = 0.5  # seconds
SMALL_READ, SMALL_READS = 256, 64  # bytes; and how many such reads there are between two looks
TOOK_TOO_LONG = "took too long: more CPU time than a file of its bytes and pixels may take"


def seconds(size: int, pixels: int = 0) -> float:
    """The CPU seconds that a file of `size` bytes and so many pixels may take."""
    return BASE + PER_MEGABYTE * size / 1e6 + PER_MEGAPIXEL * pixels / 1e6


class Clock:
    """The CPU time of one file in this thread."""

    def __init__(self, size: int):
        self._size, self._began = size, time.thread_time()
        self.allowed = seconds(size)

    def add_pixels(self, pixels: int) -> None:
        """Allow the time of an image of so many pixels."""
        self.allowed = seconds(self._size, pixels)

    def check(self) -> None:
        """Raise BadImage if the file has taken its time."""
        if time.thread_time() - self._began > self.allowed:
            raise BadImage("unreadable", TOOK_TOO_LONG)


class ClockedFile(io.BytesIO):
    """A file's bytes for a decoder of Pillow's, whose reads look at the clock.

    Pillow parses headers, and feeds its own decoders, by reads of at most 64 KB or 1 MB.
    """

    def __init__(self, data: bytes, clock: Clock):
        super().__init__(data)
        self._clock, self._small_reads = clock, 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. Raises BadImage if the file has taken its time."""
        self._small_reads += 1
        if self._small_reads == SMALL_READS or not size or size > SMALL_READ or size < 0:
            self._small_reads = 0
            self._clock.check()
        return super().read(size)
