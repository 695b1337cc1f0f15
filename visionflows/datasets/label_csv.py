"""Labels from a CSV as people have them: which columns, which picture a path means, which line.

    from visionflows.datasets.label_csv import csv_rows
    csv_rows("labels.csv", ("id", "breed"), Path("photos"), ["dogs/000bec.jpg"])

The columns may be named. Else they are path and label, or the only ones that a CSV has of
`FILE_COLUMNS` and of `LABEL_COLUMNS`, in any case. A path may be written as people write it, as
long as it can mean one picture alone (`visionflows.datasets.path_matching`). One of `SIDE_COLUMNS` is the
split, if it says so; else the folders may give one.
"""

import csv
import io
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from visionflows.datasets.folder_layout import TEST, TRAIN, VALID, Layout, divide, role_of
from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.path_matching import Pictures
from visionflows.errors import StorageError, TableError
from visionflows.storage import is_local, split_location
from visionflows.storage.local import LocalStorage

FILE_COLUMNS = (
    *("file", "file_name", "filename", "filepath", "image", "image_name", "image_path"),
    *("image_id", "id"),
)
LABEL_COLUMNS = ("label", "class", "class_name", "category", "breed", "species", "target")
IS_VALID = "is_valid"  # True or False in each line, before any other
SIDE_COLUMNS = (IS_VALID, "split", "set", "data set", "data_set", "dataset", "subset", "partition")
_PARTED = re.compile(r'"?sep=(.)"?[ \t]*\r?\n', re.IGNORECASE)
_BOOLS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "valid", "validation", "val", "dev"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "train", "training"), False),
}


class _Line(NamedTuple):
    """A line that names a picture: its number in the file, as editors count, and its cells."""

    number: int
    path: str
    label: str
    side: str = ""


class _Columns(NamedTuple):
    """Where path, label and side of the split stand in a line; and what the side's is called."""

    path: int
    label: int
    side: int = -1
    side_name: str = ""


def csv_rows(
    where: str, columns: tuple[str, ...], folder: Path, paths: list[str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the images (`paths`) in `folder` that the CSV names, sorted by path; and notes.

    Each has path and label, and is_valid if the CSV gives a split or, where it gives none, the
    folders do; what is a test's by either has no label, and why. Raises PlaceError where there is
    no such CSV, and TableError where it does not fit the folder.
    """
    text, beside = _read(where, folder)
    head, lines = _lines(where, columns, text)
    roles, notes = _roles(where, head, lines)
    pictures = Pictures(paths, os.path.abspath(folder), beside)
    rows = _rows(where, folder, pictures, lines, roles)
    if not any(row["label"] for row in rows):
        raise TableError(f"{where}: has no row with a label; fill in its column of labels")
    sides = [row.pop("role") for row in rows]
    if not roles:
        return rows, [*notes, *Layout(paths, classes=False).split(rows, named=True)]
    test = f"a test's, says the column {format_name(head.side_name)}"
    divide(rows, [(role, test if role == TEST else "") for role in sides])
    if head.side_name == IS_VALID:  # its word counts even where it leaves nothing to validate on
        rows = [{**row, "is_valid": role == VALID} for row, role in zip(rows, sides, strict=True)]
    return rows, notes


def _rows(
    where: str, folder: Path, pictures: Pictures, lines: list[_Line], roles: list[str]
) -> list[dict[str, Any]]:
    """A row of path, label and (where there are any) role for each image that lines name."""
    rows: dict[str, tuple[dict[str, Any], int]] = {}
    lost = []
    for line, role in zip(lines, roles or [""] * len(lines), strict=True):
        found = pictures.meant(line.path)
        if len(found) != 1:
            if role != TEST:  # of a test the pictures may well be elsewhere
                lost.append((line, found))
            continue
        row = {"path": found[0], "label": line.label, "role": role}
        first, number = rows.setdefault(found[0], (row, line.number))
        if first != row:
            raise TableError(
                f"{where}: names {format_name(found[0])} twice, with different values "
                f"(lines {number} and {line.number}); take one of them out"
            )
    if lost:
        raise TableError(f"{where}: {_lost(folder, lost)}")
    return [rows[path][0] for path in sorted(rows)]


def _roles(where: str, head: _Columns, lines: list[_Line]) -> tuple[list[str], list[str]]:
    """What each line is in the split that a column gives, or nothing; and a note on that."""
    if head.side < 0:
        return [], []
    if head.side_name == IS_VALID:
        return [VALID if _bool(line, where) else TRAIN for line in lines], []
    roles, column = [role_of(line.side) for line in lines], format_name(head.side_name)
    known = {*roles} - {""}
    if len(known) < 2:
        said = [*dict.fromkeys(line.side for line in lines)]
        odd = known and {*roles} != {TRAIN}
        return [], [
            f"the column {column} is taken for no split: it says {format_names(said)}"
        ] * bool(odd)
    for line, role in zip(lines, roles, strict=True):
        if not role:
            raise TableError(
                f"{where}: line {line.number}: {column} of {format_name(line.path)} is {line.side!r}; "
                "write train, valid or test"
            )
    return roles, [f"the split is that of the column {column}: {_told(roles)}"]


def _told(roles: list[str]) -> str:
    counts = {role: roles.count(role) for role in (TRAIN, VALID, TEST)}
    parts = {TRAIN: "to train on", VALID: "to validate on", TEST: "left out as a test's"}
    return ", ".join(f"{counts[role]} {what}" for role, what in parts.items() if counts[role])


def _lost(folder: Path, lost: list[tuple[_Line, list[str]]]) -> str:
    """What to say of lines whose paths mean no picture; where all mean some, of those."""
    missing = [line for line, found in lost if not found]
    lines = missing or [line for line, _ in lost]
    numbers = ", ".join(str(line.number) for line in lines[:3]) + (", …" if lines[3:] else "")
    which = f"(line{'s' if lines[1:] else ''} {numbers})"
    names = [line.path for line in lines]
    if missing:
        return (
            f"{len(lines)} of its paths name no image in {folder} {which}: {format_names(names)}; write "
            "them from that folder on, or take those lines out"
        )
    remarks = [format_names(found) for _, found in lost]
    return (
        f"{len(lines)} of its paths may mean several images {which}: {format_names(names, remarks)}; "
        "write their folders and endings too"
    )


def _lines(where: str, named: tuple[str, ...], text: str) -> tuple[_Columns, list[_Line]]:
    """Which columns a CSV has, as its first line says, and its other lines that hold anything."""
    parted = _PARTED.match(text)  # Excel's own first line, which says what parts the cells
    text, first = (text[parted.end() :], 2) if parted else (text, 1)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=parted[1] if parted else ",", strict=True
    )
    columns, number, lines = None, first, []
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                if columns is None:
                    columns = _columns(where, named, [cell.strip() for cell in cells])
                else:
                    lines.append(_line(number, cells, columns))
            number = reader.line_num + first
    except csv.Error as error:
        at = reader.line_num + first - 1
        span = f"lines {number} to {at}" if at > number else f"line {number}"
        raise TableError(
            f"{where}: not a CSV ({error}, {span}); close what is quoted there, or take the quote "
            "out"
        ) from error
    return columns or _columns(where, named, []), lines


def _line(number: int, cells: list[str], columns: _Columns) -> _Line:
    path, label, side = ("".join(cells[at : at + 1]) if at >= 0 else "" for at in columns[:3])
    return _Line(number, path, label.strip(), side.strip())


def _columns(where: str, named: tuple[str, ...], head: list[str]) -> _Columns:
    """Which columns hold the path, the label, and the side of the split if there is one."""
    names = [name.casefold() for name in head]
    pairs: tuple[tuple[str, ...], ...] = (("path",), ("label",))
    if named:
        pairs = tuple((name.casefold(),) for name in named)
    elif "path" not in names and {*names} & {*FILE_COLUMNS}:
        pairs = FILE_COLUMNS, LABEL_COLUMNS
    found = [[at for at, name in enumerate(names) if name in known] for known in pairs]
    lacking = [(named or ("path", "label"))[at] for at, columns in enumerate(found) if not columns]
    if lacking:
        raise TableError(
            f"{where}: lacks the column {' and '.join(map(format_name, lacking))}; its first line must "
            f"name {' and '.join(map(format_name, named or ('path', 'label')))}, and says "
            f"{format_names(head) or 'nothing'}{_way_out(where, named, head)}"
        )
    for columns in found:
        if len(columns) > 1:
            several = [head[at] for at in columns]
            pair = [head[columns[0]] for columns in found]
            raise TableError(
                f"{where}: has the columns {format_names(several)}; say which is meant, such as "
                f"--labels csv:{where}#{','.join(pair)}"
            )
    (path,), (label,) = found
    sides = (names.index(name) for name in SIDE_COLUMNS if name in names)
    side = next((at for at in sides if at not in (path, label)), -1)
    return _Columns(path, label, side, names[side] if side >= 0 else "")


def _way_out(where: str, named: tuple[str, ...], head: list[str]) -> str:
    """What to do about a first line that does not name what it must."""
    if len(head) == 1 and (mark := next((mark for mark in ";\t|" if mark in head[0]), "")):
        return f"; its columns are parted by {mark!r}: save it with commas"
    if named or len(head) < 2:
        return ""
    return f"; or name two, as --labels csv:{where}#{format_name(head[0])},{format_name(head[1])}"


def _read(where: str, folder: Path) -> tuple[str, str]:
    """The csv's text, and the path of the folder that it lies in, if on this machine.

    It is looked for as named, and then, for one that came in the archive, inside the dataset.
    """
    for spot in [where, os.path.join(folder, where)] if is_local(where) else [where]:
        source, name = split_location(spot)
        if source.exists(name):
            break
    else:
        raise StorageError(f"{where}: no such file; --labels csv: takes one with path,label")
    try:
        text = source.read(name).decode("utf-8-sig")
    except OSError as error:
        raise StorageError(f"{where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{where}: not UTF-8 text ({error}); save it as a UTF-8 CSV") from error
    return text, os.path.abspath(source.root) if isinstance(source, LocalStorage) else ""


def _bool(line: _Line, where: str) -> bool:
    try:
        return _BOOLS[line.side.lower()]
    except KeyError:
        raise TableError(
            f"{where}: line {line.number}: is_valid of {format_name(line.path)} is {line.side!r}; "
            "write True or False"
        ) from None
