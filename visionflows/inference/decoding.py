"""From files to uint8 batches for a network, with a row for every file.

It imports neither torch nor a model, so that decode processes stay small.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from visionflows.bounded_read import TooLarge
from visionflows.hashing import sha256_of
from visionflows.images.decode_options import WHOLE, DecodeOptions
from visionflows.images.image_status import BadImage, Status
from visionflows.images.memory_limits import MemoryLimits
from visionflows.images.near_duplicates import signature
from visionflows.images.open import as_bad_image, open_decoded
from visionflows.images.resize import ResizeMethod, resize_image
from visionflows.storage.base import Entry, ReadFailed, Storage

Batch = list[Entry] | list[str]  # files as they were listed, or their names


class Row(NamedTuple):
    """The result of one file: status, error if not ok, probabilities by class.

    `label` is the index of the predicted class, -1 if there is none. It is the network's choice,
    which class weights of the training may have moved from the most probable class. With several
    labels a photo it stays -1, and `labels` are the sorted indices of its classes, or none.
    `extra_cells` are its EXIF data and its near-duplicate cells, with the settings `exif` and
    `find_duplicates`. `features` are the pooled inputs of the network's head, if requested. An
    `outlier_score` over 1 is an outlier; None if the model detects none.
    """

    name: str
    status: Status
    error: str
    probabilities: np.ndarray | None
    sha256: str
    extra_cells: tuple[str, ...] = ()
    features: np.ndarray | None = None
    outlier_score: float | None = None
    label: int = -1
    labels: tuple[int, ...] = ()


class DecodedBatch(NamedTuple):
    """A batch of files as pixels, uint8 (batch size, side, side, 3), and a row for every file.

    The first `ok_count` images are those of the rows that are ok, in order; the rest are zeros. An
    output can depend, in its last bit, on the number of images in a forward pass. So the batch
    always has the same size, and a row never depends on the files around it.
    """

    rows: list[Row]
    pixels: np.ndarray
    ok_count: int
    read_seconds: float
    decode_seconds: float


@dataclasses.dataclass
class Decoder:
    """Turns names in a storage into a DecodedBatch; it can be sent to another process."""

    batch_size: int
    side: int
    resize: ResizeMethod
    memory: MemoryLimits
    decode_options: DecodeOptions = WHOLE
    exif: bool = False
    find_duplicates: bool = False

    def __call__(self, storage: Storage, files: Batch) -> DecodedBatch:
        return self.decode(storage, files, self.prefetch(storage, files))

    def prefetch(self, storage: Storage, files: Batch) -> Iterator[bytes | OSError]:
        """The contents of files, read from now on; a TooLarge for each that is read later."""
        return storage.read_many(map(as_entry, files), self.memory.ahead)

    def decode(
        self, storage: Storage, files: Batch, contents: Iterator[bytes | OSError]
    ) -> DecodedBatch:
        """The batch of files from their contents, each decoded as it arrives."""
        started, reading = time.perf_counter(), 0.0
        pixels = np.zeros((self.batch_size, self.side, self.side, 3), np.uint8)
        rows: list[Row] = []
        ok_count = 0
        for entry in map(as_entry, files):
            read_started = time.perf_counter()
            content = next(contents)
            with contextlib.ExitStack() as reserved:
                if isinstance(content, TooLarge) and content.size <= self.memory.encoded:
                    reserved.enter_context(self.memory.files.reserve(content.size))
                    (content,) = storage.read_many([entry], self.memory.encoded)
                reading += time.perf_counter() - read_started
                rows.append(self._decode(entry.name, content, pixels, ok_count))
            ok_count += rows[-1].status == "ok"
        decoding = time.perf_counter() - started - reading
        return DecodedBatch(rows, pixels, ok_count, reading, decoding)

    def _decode(self, name: str, content: bytes | OSError, pixels: np.ndarray, at: int) -> Row:
        sha256, cells = "", ()  # type: str, tuple[str, ...]
        try:
            if isinstance(content, OSError):
                raise _bad_image(content, self.memory.encoded) from content
            sha256 = sha256_of(content)
            with open_decoded(content, self.memory, self.decode_options) as picture:
                pixels[at] = np.asarray(resize_image(picture.image, self.side, self.resize))
                if self.exif:
                    cells = picture.photo().row(picture.size)
                if self.find_duplicates:
                    cells = (*cells, "", signature(picture.image).hex())
        except BadImage as bad:
            return Row(name, bad.status, bad.reason, None, sha256)
        return Row(name, "ok", "", None, sha256, cells)


def as_entry(file: Entry | str) -> Entry:
    """A file as it was listed; a bare name has no size and no version."""
    return file if isinstance(file, Entry) else Entry(file, 0, "")


def _bad_image(error: OSError, most: int) -> BadImage:
    bad = as_bad_image(error, most)
    return BadImage("fetch_failed", bad.reason) if isinstance(error, ReadFailed) else bad
