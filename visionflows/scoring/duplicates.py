"""--find-duplicates: rows whose image is in the training data, or in an earlier row."""

import functools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from visionflows.images.near_duplicates import BYTES, first_duplicate, signature_array
from visionflows.models.artifact import Model, read_files_csv
from visionflows.scoring.columns import DUPLICATE_COLUMNS
from visionflows.scoring.schema import DuplicateCounts

_DIGEST = 16  # bytes of a SHA-256 that are compared


class DuplicateFinder:
    """Fills the two columns of rows that are `ok`; `duplicate_of` holds a signature until then."""

    def __init__(self, header: Sequence[str], model: Model):
        self._columns = [header.index(name) for name in DUPLICATE_COLUMNS]
        files = read_files_csv(model.files)
        self._training_paths = [file["path"] for file in files]
        contents = b"".join(bytes.fromhex(file["sha256"])[:_DIGEST] for file in files)
        self._training_contents = np.frombuffer(contents, f"S{_DIGEST}")
        self._training_signatures = signature_array(file["signature"] for file in files)
        self._signatures, self._contents = bytearray(), bytearray()

    def add(self, rows: Iterable[list[str]], sha256s: Iterable[str]) -> None:
        """Add the rows of a part, and the SHA-256 of each one's file."""
        for cells, sha256 in zip(rows, sha256s, strict=True):
            if cells[1] == "ok":
                self._signatures += signature_array([cells[self._columns[1]]]).tobytes()
                self._contents += bytes.fromhex(sha256)[:_DIGEST]

    def counts(self) -> DuplicateCounts:
        """How many rows have a value in each column."""
        seen, first = (int((found >= 0).sum()) for found in self._found)
        return DuplicateCounts(seen_in_training=seen, duplicates=first)

    def filler(self) -> Callable[[list[str]], list[str]]:
        """A function that fills the columns of a row; call it once for every row, in order."""
        seen, first = self._found
        originals = set(first[first >= 0].tolist())
        paths: dict[int, str] = {}
        indices = iter(range(len(first)))

        def fill(cells: list[str]) -> list[str]:
            filled = list(cells)
            index = next(indices) if cells[1] == "ok" else -1
            if index in originals:
                paths[index] = cells[0]
            training, earlier = (seen[index], first[index]) if index >= 0 else (-1, -1)
            filled[self._columns[0]] = self._training_paths[training] if training >= 0 else ""
            filled[self._columns[1]] = paths[int(earlier)] if earlier >= 0 else ""
            return filled

        return fill

    @functools.cached_property
    def _found(self) -> tuple[np.ndarray, np.ndarray]:
        """The training file and the earlier row that each row duplicates: indices, or -1."""
        signatures = np.frombuffer(bytes(self._signatures), np.uint8).reshape(-1, BYTES)
        contents = np.frombuffer(bytes(self._contents), f"S{_DIGEST}")
        known = len(self._training_contents)
        all_signatures = np.concatenate([self._training_signatures, signatures])
        similar = first_duplicate(all_signatures, known)[known:]
        same = _first_same(np.concatenate([self._training_contents, contents]))[known:]
        seen = np.where(same < known, same, similar)
        same, similar = _first_same(contents), first_duplicate(signatures)
        first = np.where(similar < 0, same, np.minimum(similar, same))
        return seen, np.where(first == np.arange(len(first)), -1, first)


def _first_same(contents: np.ndarray) -> np.ndarray:
    """The index of the first content that equals each."""
    _, first, inverse = np.unique(contents, return_index=True, return_inverse=True)
    return first[inverse]
