"""corrections.csv: labels that people gave to images, which are identified by their content."""

import csv
import io
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from visionflows.errors import StorageError, TableError, one_line
from visionflows.escaping import escape_formula, unescape_formula, utf8
from visionflows.label_sets import split_labels
from visionflows.storage import location_text, open_location, open_storage, split_location
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.corrections")

LABEL_ISSUE = "label issue"  # why of a line that the search for wrong labels wrote
FOLDER = "corrections"  # in the output of a scoring run


class Correction(NamedTuple):
    """A line of corrections.csv, in the order of COLUMNS; `beside` is the folder of its file."""

    path: str
    sha256: str  # of the content
    label: str  # by a person; of a label issue with an answer only, else it is a suggestion
    # Right, other, none (it is none of the classes), or empty (of several labels, it has no label).
    answer: str = ""
    was: str = ""  # the network's label
    confidence: str = ""
    why: str = ""  # audit, outlier or uncertain
    drawn: int = 0  # the size of the random sample of an audit
    model: str = ""
    scored: str = ""  # when the run ended
    root: str = ""  # the location that paths are relative to; by default that of the file
    decisions: int = 0  # of a model of several labels: its number of classes
    beside: str = ""

    @property
    def answered(self) -> bool:
        """Whether a person has reviewed it; a suggested label needs an answer."""
        return bool(self.answer) or (bool(self.label) and self.why != LABEL_ISSUE)

    @property
    def is_none(self) -> bool:
        return self.answer == "none"

    @property
    def is_empty(self) -> bool:
        """Whether a person said that it has no label, where it could have several."""
        return self.answer == "empty"

    @property
    def right(self) -> bool:
        return (bool(self.label) or self.is_empty) and self.label == self.was

    @property
    def wrong_decisions(self) -> int:
        """Of several labels, how many were missed or should not have been given."""
        return len({*split_labels(self.label)} ^ {*split_labels(self.was)})

    @property
    def locations(self) -> list[Storage]:
        """Where its path may lead to the image: `root`, then the folder of the corrections."""
        return [open_location(text) for text in dict.fromkeys((self.root, self.beside)) if text]


COLUMNS = Correction._fields[:-1]


def read_corrections(locations: Iterable[str]) -> list[Correction]:
    """The reviewed lines of corrections files, in the order of the files and lines.

    Each location is a .csv, a folder of .csv files, or the output of a scoring run. Raises
    StorageError if there is none, and TableError for a line that cannot be used.
    """
    return [row for one in locations for row in _answered(one)]


def existing_locations(locations: Iterable[str]) -> list[str]:
    """The locations without folders that do not exist yet, as before a first scoring run."""
    found = []
    for location in locations:
        if location.lower().endswith(".csv") or open_storage(location).exists():
            found.append(location)
        else:
            log.warning("%s: no such folder yet, so no corrections are taken from it", location)
    return found


def _answered(location: str) -> list[Correction]:
    rows = [*_read_location(location)]
    answered = [row for row in rows if row.answered]
    if issues := sum(row.why == LABEL_ISSUE and not row.answered for row in rows):
        log.warning(
            "%s: %d of %d label issues have no answer, and change nothing; write right, other or "
            "none into the column answer",
            *(location, issues, sum(row.why == LABEL_ISSUE for row in rows)),
        )
    return answered


def format_corrections(rows: Iterable[Correction]) -> bytes:
    """The content of a corrections.csv; no cell is a formula for a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([escape_formula(str(cell)) for cell in row[:-1]] for row in rows)
    return utf8(text.getvalue())


def latest_corrections(rows: Sequence[Correction]) -> tuple[dict[str, Correction], list[str]]:
    """The last correction of each content, by its sha256, and the paths with several answers."""
    latest: dict[str, Correction] = {}
    conflicting: dict[str, str] = {}
    for row in rows:
        before = latest.get(row.sha256, row)
        if (before.label, before.is_none) != (row.label, row.is_none):
            conflicting[row.sha256] = row.path
        latest[row.sha256] = row
    return latest, [*conflicting.values()]


def parse_corrections(name: str, data: bytes, beside: str = "") -> list[Correction]:
    """The lines of a corrections.csv with this name. Raises TableError."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        missing = {"path", "sha256", "label"} - {*(reader.fieldnames or ())}
        if missing:
            raise TableError(
                f"{name}: lacks the column {' and '.join(sorted(missing))}; give the "
                "corrections.csv that review.html saves"
            )
        return [_parse_line(f"{name}: line {reader.line_num}", line, beside) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{name}: not a UTF-8 CSV ({error}); save it as one") from error


def _parse_line(name: str, line: dict[str, str], beside: str) -> Correction:
    cells = {column: unescape_formula(line.get(column) or "") for column in COLUMNS}
    answer, label = cells["answer"], cells["label"]
    path = one_line(ascii(cells["path"]))
    if not re.fullmatch("[0-9a-fA-F]{64}", cells["sha256"]):
        raise TableError(f"{name}: {path} has no sha256 of 64 hex digits; remove that line")
    if reason := _invalid_answer(answer, label):
        raise TableError(f"{name}: {path} has {reason}")
    for column in ("drawn", "decisions"):
        if (cell := cells[column]) and not (cell.isascii() and cell.isdecimal()):
            raise TableError(f"{name}: {column} is {one_line(cell)!r}; write a number, or nothing")
    root = cells["root"] or beside
    cells |= {"sha256": cells["sha256"].lower(), "root": root}
    return make_correction(cells)._replace(beside=beside)


def make_correction(cells: dict[str, str]) -> Correction:
    """A correction from its cells, by column."""
    drawn, decisions = (int(cells[column] or 0) for column in ("drawn", "decisions"))
    row = Correction._make([*map(cells.__getitem__, COLUMNS), ""])
    return row._replace(drawn=drawn, decisions=decisions)


def _invalid_answer(answer: str, label: str) -> str:
    if answer not in ("", "right", "other", "none", "empty"):
        return f"the answer {one_line(answer)!r}; write right, other, none, empty or nothing"
    if answer in ("none", "empty") and label:
        return f"the answer {answer} and the label {one_line(label)!r}; empty one of them"
    if answer in ("right", "other") and not label:
        return f"the answer {answer} and no label; write one, or the answer none"
    return ""


def _read_location(location: str) -> Iterator[Correction]:
    is_file = location.lower().endswith(".csv")
    for file in [location] if is_file else _files_in(location):
        folder, data = read_file(file)
        yield from parse_corrections(file, data, location_text(folder))


def read_file(location: str) -> tuple[Storage, bytes]:
    """The folder and the content of a file. Raises StorageError."""
    folder, name = split_location(location)
    try:
        return folder, folder.read(name)
    except FileNotFoundError as error:
        raise StorageError(f"{location}: no such file; check its name") from error
    except OSError as error:
        raise StorageError(f"{location}: cannot be read ({error.strerror or error})") from error


def _files_in(location: str) -> list[str]:
    """The .csv files of a folder by name; those in FOLDER of an output."""
    folder = open_storage(location)
    if not folder.exists():
        raise StorageError(
            f"{location}: no such folder; name a corrections.csv, or the output of a run"
        )
    if folder.exists("run.json") or folder.exists(FOLDER):
        folder = folder.sub(FOLDER)
    names = [name for name in folder.names() if name.lower().endswith(".csv")]
    if not names:
        log.info("%s: no corrections yet", folder)
    return [f"{str(folder).rstrip('/')}/{name}" for name in names]
