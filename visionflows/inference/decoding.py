"""From files to the uint8 batches that a network is given, with a row for every file.

    from visionflows.inference.decoding import Decoder
    decoded = Decoder(16, 224, "crop", MAX_PIXELS)(place("inbox"), ["1.jpg", "2.jpg"])

It knows neither torch nor a model, so that a decode process costs little.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from visionflows.bounded_read import TooLarge
from visionflows.hashing import sha256_of
from visionflows.images.decode_options import WHOLE, DecodeOptions
from visionflows.images.exif import metadata_row
from visionflows.images.image_status import BadImage, Status
from visionflows.images.memory_limits import MemoryLimits
from visionflows.images.near_duplicates import signature
from visionflows.images.open import as_bad_image, open_decoded
from visionflows.images.resize import ResizeMethod
from visionflows.storage.base import Entry, ReadFailed, Storage

# Files of a batch: as they were listed, or by their names alone.
Batch = list[Entry] | list[str]


class Row(NamedTuple):
    """What is said of one file: its status, why if not ok, and its probabilities by class.

    `about` is what it says of itself (images.exif), where that was asked for, and what it looks
    like: in the second of the two cells that scoring.look_alikes fills in the end. `features` are
    what the network's head is given of it, where they are asked for. `oddness` is how unlike
    the training images it is, where the model can tell: over 1, of another kind.
    """

    name: str
    status: Status
    error: str
    probabilities: np.ndarray | None
    sha256: str
    about: tuple[str, ...] = ()
    features: np.ndarray | None = None
    outlier_score: float | None = None


class Decoded(NamedTuple):
    """A batch of files as pixels: uint8 (batch size, side, side, 3), and a Row for every file.

    The first `good` pictures are those of the rows that are ok, in order; the rest is zeros.
    A network's answer for an image can depend, in the last bit, on how many images it is given
    at once, and on nothing else about them: so it is always given the same number, and a row
    is the same to the byte whatever the files around it.
    """

    rows: list[Row]
    pixels: np.ndarray
    good: int
    read_seconds: float
    decode_seconds: float


class Decoder:
    """Turns names in a place into a Decoded batch; light enough to send to another process."""

    def __init__(
        self,
        batch_size: int,
        side: int,
        resize: ResizeMethod,
        max_pixels: int,
        memory: MemoryLimits | None = None,
        decode_options: DecodeOptions = WHOLE,
    ):
        self.batch_size, self.side, self.resize = batch_size, side, resize
        self.max_pixels, self.memory = max_pixels, memory or MemoryLimits(max_pixels)
        self.decode_options, self.exif, self.find_duplicates = decode_options, False, False

    def __call__(self, storage: Storage, files: Batch) -> Decoded:
        return self.decode(storage, files, self.ahead(storage, files))

    def ahead(self, storage: Storage, files: Batch) -> Iterator[bytes | OSError]:
        """The contents of files, read from now on; a TooLarge for each that waits for its turn."""
        return storage.read_many(map(as_entry, files), self.memory.ahead)

    def decode(
        self, storage: Storage, files: Batch, contents: Iterator[bytes | OSError]
    ) -> Decoded:
        """The batch of files from their contents, each decoded as it arrives."""
        started, reading = time.perf_counter(), 0.0
        batch = np.zeros((self.batch_size, self.side, self.side, 3), np.uint8)
        rows: list[Row] = []
        good = 0
        for entry in map(as_entry, files):
            asked = time.perf_counter()
            content = next(contents)
            with contextlib.ExitStack() as room:
                if isinstance(content, TooLarge) and content.size <= self.memory.encoded:
                    room.enter_context(self.memory.file(content.size))
                    (content,) = storage.read_many([entry], self.memory.encoded)
                reading += time.perf_counter() - asked
                rows.append(self._decode(entry.name, content, batch, good))
            good += rows[-1].status == "ok"
        return Decoded(rows, batch, good, reading, time.perf_counter() - started - reading)

    def _decode(self, name: str, content: bytes | OSError, batch: np.ndarray, at: int) -> Row:
        sha256 = ""
        try:
            if isinstance(content, OSError):
                raise _bad(content, self.memory.encoded) from content
            sha256 = sha256_of(content)
            with open_decoded(
                content, self.max_pixels, self.memory, self.decode_options
            ) as picture:
                batch[at] = picture.pixels(self.side, self.resize)
                about = metadata_row(picture.exif, picture.size) if self.exif else ()
                if self.find_duplicates:
                    about = (*about, "", signature(picture.image).hex())
        except BadImage as bad:
            return Row(name, bad.status, bad.reason, None, sha256)
        return Row(name, "ok", "", None, sha256, about)


def as_entry(file: Entry | str) -> Entry:
    """A file as it was listed; of a name alone nothing else is known."""
    return file if isinstance(file, Entry) else Entry(file, 0, "")


def _bad(error: OSError, most: int) -> BadImage:
    bad = as_bad_image(error, most)
    return BadImage("fetch_failed", bad.reason) if isinstance(error, ReadFailed) else bad
