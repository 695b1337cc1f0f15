"""corrections.csv: what people said of images, told apart by their content.

    from visionflows.review.corrections import read_corrections
    read_corrections(["scores/night", "corrections.csv"])[0].label

    path,sha256,label,answer,was,confidence,why,drawn,model,scored,root

`sha256` is the content's, and `label` what a person says it is. `answer` is `right` (label is what
the network said), `other`, or `none`: it is none of the classes, and label is empty. Other columns
may be missing: `was` and `confidence` are what the network said; `why` it was shown (audit,
outlier, uncertain); of an audit `drawn` is how many were; `model` and `scored` (a time) tell the
run, and `root` is the place where paths begin, by default that of the file. A line with neither
label nor answer says nothing.
"""

import csv
import io
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from visionflows.errors import StorageError, TableError, one_line
from visionflows.storage import is_local, open_storage, split_location
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name

log = logging.getLogger("visionflows.corrections")

COLUMNS = (
    *("path", "sha256", "label", "answer", "was", "confidence", "why", "drawn"),
    *("model", "scored", "root"),
)
FOLDER = "corrections"  # in the output of a scoring run
_ANSWERS = ("", "right", "other", "none")
_SHA256 = re.compile("[0-9a-f]{64}")


class Correction(NamedTuple):
    """A line of corrections.csv, in the order of COLUMNS; `beside` is the place of its file."""

    path: str
    sha256: str
    label: str
    answer: str = ""
    was: str = ""
    confidence: str = ""
    why: str = ""
    drawn: int = 0
    model: str = ""
    scored: str = ""
    root: str = ""
    beside: str = ""

    @property
    def answered(self) -> bool:
        """Whether a person said something."""
        return bool(self.label) or self.is_none

    @property
    def is_none(self) -> bool:
        """Whether a person said that it is none of the classes."""
        return self.answer == "none"

    @property
    def right(self) -> bool:
        """Whether the network was."""
        return bool(self.label) and self.label == self.was

    @property
    def locations(self) -> list[Storage]:
        """Where the file may lie: at its path from the root, or from beside the corrections."""
        root = decode_name(self.root) if is_local(self.root) else self.root
        return [open_storage(where) for where in dict.fromkeys((root, self.beside)) if where]


def read_corrections(locations: Iterable[str]) -> list[Correction]:
    """What people said, in the order of the files and their lines; what says nothing is left out.

    Each place is a .csv, the output of a scoring run (of which those that were added are read,
    oldest first) or a folder of .csv files. Raises PlaceError where there is none, and TableError
    for a line that cannot be used.
    """
    return [row for where in locations for row in _of(where) if row.answered]


def written(rows: Iterable[Correction]) -> bytes:
    """The same as corrections.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([*row[:-1]] for row in rows)
    return text.getvalue().encode()


def last_of_each(rows: Sequence[Correction]) -> tuple[dict[str, Correction], list[str]]:
    """The last word on each content, by its sha256; and the paths of those told differently."""
    last: dict[str, Correction] = {}
    differing: dict[str, str] = {}
    for row in rows:
        before = last.get(row.sha256, row)
        if (before.label, before.is_none) != (row.label, row.is_none):
            differing[row.sha256] = row.path
        last[row.sha256] = row
    return last, [*differing.values()]


def parsed(where: str, data: bytes, beside: str = "") -> list[Correction]:
    """The lines of a corrections.csv that was read from `where`. Raises TableError."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        lacking = {"path", "sha256", "label"} - {*(reader.fieldnames or ())}
        if lacking:
            raise TableError(
                f"{where}: lacks the column {' and '.join(sorted(lacking))}; give the "
                "corrections.csv that review.html saves"
            )
        return [_row(f"{where}: line {reader.line_num}", line, beside) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{where}: no UTF-8 CSV ({error}); save it as one") from error


def _row(where: str, line: dict[str, str], beside: str) -> Correction:
    cells = {name: line.get(name) or "" for name in COLUMNS}
    answer, label, drawn = cells["answer"], cells["label"], cells["drawn"]
    told = one_line(ascii(cells["path"]))
    if not _SHA256.fullmatch(cells["sha256"].lower()):
        raise TableError(f"{where}: {told} has no sha256 of 64 hex digits; take that line out")
    if answer not in _ANSWERS or (answer and (answer == "none") == bool(label)):
        raise TableError(f"{where}: {told} has {_odd(answer, label)}")
    if drawn and not drawn.isdecimal():
        raise TableError(f"{where}: drawn is {one_line(drawn)!r}; write a number, or nothing")
    root = cells["root"] or (encode_name(beside) if is_local(beside) else beside)
    return Correction(
        *(cells["path"], cells["sha256"].lower(), label, answer),
        *(cells["was"], cells["confidence"], cells["why"], int(drawn or 0)),
        *(cells["model"], cells["scored"], root, beside),
    )


def _odd(answer: str, label: str) -> str:
    if answer not in _ANSWERS:
        return f"the answer {one_line(answer)!r}; write right, other, none or nothing"
    if answer == "none":
        return f"the answer none and the label {one_line(label)!r}; empty one of them"
    return f"the answer {answer} and no label; write one, or the answer none"


def _of(where: str) -> Iterator[Correction]:
    files = [where] if where.lower().endswith(".csv") else _in_folder(where)
    for file in files:
        folder, name = split_location(file)
        try:
            data = folder.read(name)
        except FileNotFoundError as error:
            raise StorageError(f"{file}: no such file; check its name") from error
        except OSError as error:
            raise StorageError(f"{file}: cannot be read ({error.strerror or error})") from error
        here = os.path.abspath(folder.root) if isinstance(folder, LocalStorage) else str(folder)
        yield from parsed(file, data, here)


def _in_folder(where: str) -> list[str]:
    """The .csv files of a folder in the order of their names; of an output those in FOLDER."""
    folder = open_storage(where)
    if not folder.exists():
        raise StorageError(
            f"{where}: no such folder; name a corrections.csv, or the output of a run"
        )
    inside = folder.exists("run.json") or folder.exists(FOLDER)
    there = folder.sub(FOLDER) if inside else folder
    names = [name for name in there.names() if name.lower().endswith(".csv")]
    if not names:
        log.info("%s: holds no corrections yet", there)
    return [f"{str(there).rstrip('/')}/{name}" for name in names]
