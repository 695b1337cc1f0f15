"""Rows of pictures that the model has seen, or that are in the run before: `--find-duplicates`.

    found = LookAlikes(job.header, model)
    found.add(rows, marks)                           # of every part, in order
    fill = found.filler()
    fill(cells)                                      # of every row, in the same order

In a part `duplicate_of` holds what its picture looks like (images.alike), and `seen_in_training`
nothing: what they say can only be said when all rows are there. An image takes some 250 bytes
meanwhile.
"""

import csv
import io
import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from visionflows.images.near_duplicates import BYTES, first_duplicate, signature_array
from visionflows.models.artifact import Model
from visionflows.scoring.schema import DuplicateCounts

log = logging.getLogger("visionflows.predict")

COLUMNS = ("seen_in_training", "duplicate_of")
_DIGEST = 16  # bytes of a sha256 that tell contents apart here


class DuplicateFinder:
    """What the two columns of a run's rows say: of every row that is `ok`, in order."""

    def __init__(self, header: Sequence[str], model: Model):
        self._columns = [header.index(name) for name in COLUMNS]
        files = [*csv.DictReader(io.StringIO(model.files.read("files.csv").decode(), newline=""))]
        self._training = [file["path"] for file in files]
        self._known = _digests(file["sha256"] for file in files)
        self._theirs = signature_array(file.get("signature", "") for file in files)
        if files and "signature" not in files[0]:
            log.info("%s: is from before look-alikes were: only its own bytes are told", model.name)
        self._signatures, self._contents = bytearray(), bytearray()
        self._found: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, rows: Iterable[list[str]], contents: Iterable[str]) -> None:
        """Take the rows of a part, and the sha256 of each one's file."""
        for cells, sha256 in zip(rows, contents, strict=True):
            if cells[1] == "ok":
                self._signatures += signature_array([cells[self._columns[1]]]).tobytes()
                self._contents += bytes.fromhex(sha256)[:_DIGEST]

    def counts(self) -> DuplicateCounts:
        """How many rows say something in each of the columns."""
        seen, first = self._find()
        return DuplicateCounts(
            seen_in_training=int((seen >= 0).sum()), duplicates=int((first >= 0).sum())
        )

    def filler(self) -> Callable[[list[str]], list[str]]:
        """What fills the columns of rows, which must come in order, each once."""
        seen, first = self._find()
        wanted = set(first[first >= 0].tolist())
        paths: dict[int, str] = {}
        rows = iter(range(len(first)))

        def fill(cells: list[str]) -> list[str]:
            filled = list(cells)
            at = next(rows) if cells[1] == "ok" else -1
            if at in wanted:
                paths[at] = cells[0]
            training = self._training[seen[at]] if at >= 0 and seen[at] >= 0 else ""
            before = paths[int(first[at])] if at >= 0 and first[at] >= 0 else ""
            for column, path in zip(self._columns, (training, before), strict=True):
                filled[column] = path
            return filled

        return fill

    def _find(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each row the file of the training, and the row before, that it is again; or -1."""
        if self._found is None:
            ours = np.frombuffer(bytes(self._signatures), np.uint8).reshape(-1, BYTES)
            contents = np.frombuffer(bytes(self._contents), f"S{_DIGEST}")
            known, both = len(self._known), np.concatenate([self._theirs, ours])
            alike = first_duplicate(both, known)[known:]
            same = _first_same(np.concatenate([self._known, contents]))[known:]
            seen = np.where(same < known, same, alike)
            again, alike = _first_same(contents), first_duplicate(ours)
            first = np.where(alike < 0, again, np.minimum(alike, again))
            self._found = seen, np.where(first == np.arange(len(first)), -1, first)
        return self._found


def _digests(contents: Iterable[str]) -> np.ndarray:
    data = b"".join(bytes.fromhex(sha256)[:_DIGEST] for sha256 in contents)
    return np.frombuffer(data, f"S{_DIGEST}")


def _first_same(contents: np.ndarray) -> np.ndarray:
    """The index of the first that is the same as each."""
    _, first, back = np.unique(contents, return_index=True, return_inverse=True)
    return first[back]
