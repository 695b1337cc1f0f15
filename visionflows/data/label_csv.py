"""Labels from a CSV as people have them: which columns, which picture a path means, which line.

    from visionflows.data.label_csv import csv_rows
    csv_rows("labels.csv", ("id", "breed"), Path("photos"), ["dogs/000bec.jpg"])

The columns may be named. Else they are path and label, or the only ones that a CSV has of
`FILE_COLUMNS` and of `LABEL_COLUMNS`, in any case. A path is looked up as it stands, then as people
write it: with backslashes, in another Unicode form or case, without its folders or its ending,
as long as it can mean one picture alone.
"""

import csv
import io
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from visionflows.data.layout import nfc
from visionflows.data.lines import shown, some
from visionflows.errors import PlaceError, TableError
from visionflows.places import file_in, is_local
from visionflows.places.local import LocalPlace

FILE_COLUMNS = (
    *("file", "file_name", "filename", "filepath", "image", "image_name", "image_path"),
    *("image_id", "id"),
)
LABEL_COLUMNS = ("label", "class", "class_name", "category", "breed", "species", "target")
_BOOLS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "valid", "validation", "val", "dev"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "train", "training"), False),
}


class _Line(NamedTuple):
    """A line that names a picture: its number in the file, as editors count, and its cells."""

    number: int
    path: str
    label: str
    is_valid: str | None = None


def csv_rows(
    where: str, columns: tuple[str, ...], folder: Path, paths: list[str]
) -> list[dict[str, Any]]:
    """The rows of the images (`paths`) in `folder` that the CSV names, sorted by path.

    Each has path, label, and is_valid if the CSV has that column. Raises PlaceError where there is
    no such CSV, and TableError where it does not fit the folder.
    """
    text, beside = _read(where, folder)
    pictures = _Pictures(paths, os.path.abspath(folder), beside)
    rows: dict[str, tuple[dict[str, Any], int]] = {}
    lost = []
    for line in _lines(where, columns, text):
        found = pictures.meant(line.path)
        if len(found) != 1:
            lost.append((line, found))
            continue
        row: dict[str, Any] = {"path": found[0], "label": line.label}
        if line.is_valid is not None:
            row["is_valid"] = _bool(line, where)
        first, number = rows.setdefault(found[0], (row, line.number))
        if first != row:
            raise TableError(
                f"{where}: names {shown(found[0])} twice, with different values "
                f"(lines {number} and {line.number})"
            )
    if lost:
        raise TableError(f"{where}: {_lost(folder, lost)}")
    if not any(row["label"] for row, _ in rows.values()):
        raise TableError(f"{where}: has no row with a label")
    return [rows[path][0] for path in sorted(rows)]


class _Pictures:
    """The pictures of a folder, found as people write their paths, in a CSV that lies `beside`."""

    def __init__(self, paths: list[str], folder: str, beside: str):
        self.paths, self.folder, self.beside = set(paths), folder, beside
        self.by_name: dict[str, list[str]] = defaultdict(list)  # with the ending, and without
        for path in paths:
            name = _plain(posixpath.basename(path))
            for key in {name, posixpath.splitext(name)[0]}:
                self.by_name[key].append(path)

    def meant(self, text: str) -> list[str]:
        """The pictures that a path may mean: one, none, or several."""
        if text in self.paths:
            return [text]
        slashed = text.replace("\\", "/").strip()
        spots = [*self._spots(text), *self._spots(slashed)]
        for spot in spots:
            if spot in self.paths:
                return [spot]
        wanted = [_plain(spot) for spot in spots]
        tail = f"/{_plain(posixpath.normpath(slashed))}"
        found = self.by_name.get(posixpath.basename(tail), [])
        for key in (_plain, _without_ending):
            keys = {path: key(path) for path in found}
            for spot in wanted:
                if same := [path for path in found if keys[path] == spot]:
                    return _nearest(same, slashed)
            if below := [path for path in found if keys[path].endswith(tail)]:
                return _nearest(below, slashed)
        return []

    def _spots(self, text: str) -> list[str]:
        """Where in the folder a path may lead: from it, and from where the CSV lies."""
        spots = [posixpath.normpath(text)]
        full = posixpath.normpath(posixpath.join(self.beside, text))
        if self.beside and full.startswith(f"{self.folder}/"):
            spots.append(full[len(self.folder) + 1 :])
        return spots


def _plain(path: str) -> str:
    return nfc(path).casefold()


def _without_ending(path: str) -> str:
    return posixpath.splitext(_plain(path))[0]


def _nearest(paths: list[str], text: str) -> list[str]:
    """The one of several that is written as the text is, if it is one; else all of them."""
    text = nfc(posixpath.normpath(text))
    same = [
        path
        for path in paths
        if text in (nfc(path)[-len(text) :], nfc(posixpath.splitext(path)[0])[-len(text) :])
    ]
    return same if len(same) == 1 else paths


def _lost(folder: Path, lost: list[tuple[_Line, list[str]]]) -> str:
    """What to say of lines whose paths mean no picture; where all mean some, of those."""
    missing = [line for line, found in lost if not found]
    lines = missing or [line for line, _ in lost]
    numbers = ", ".join(str(line.number) for line in lines[:3]) + (", …" if lines[3:] else "")
    which = f"(line{'s' if lines[1:] else ''} {numbers})"
    names = [line.path for line in lines]
    if missing:
        return f"{len(lines)} of its paths name no image in {folder} {which}: {some(names)}"
    remarks = [some(found) for _, found in lost]
    return f"{len(lines)} of its paths may mean several images {which}: {some(names, remarks)}"


def _lines(where: str, named: tuple[str, ...], text: str) -> Iterator[_Line]:
    """The lines of a CSV that have anything in them, after the first one, which names columns."""
    reader = csv.reader(io.StringIO(text, newline=""))
    columns, number = None, 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                if columns is None:
                    columns = _columns(where, named, [cell.strip() for cell in cells])
                else:
                    path, label, *side = ("".join(cells[at : at + 1]) for at in columns)
                    yield _Line(number, path, label, *side)
            number = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{where}: not a CSV ({error}, line {reader.line_num})") from error
    if columns is None:
        _columns(where, named, [])


def _columns(where: str, named: tuple[str, ...], head: list[str]) -> list[int]:
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
            f"{where}: lacks the column {' and '.join(map(shown, lacking))}; its first line must "
            f"name {' and '.join(map(shown, named or ('path', 'label')))}, and says "
            f"{some(head) or 'nothing'}{_way_out(where, named, head)}"
        )
    for columns in found:
        if len(columns) > 1:
            several = [head[at] for at in columns]
            pair = [head[columns[0]] for columns in found]
            raise TableError(
                f"{where}: has the columns {some(several)}; say which is meant, such as "
                f"--labels csv:{where}#{','.join(pair)}"
            )
    return [*(at for columns in found for at in columns), *_index(names, "is_valid")]


def _index(names: list[str], name: str) -> list[int]:
    return [names.index(name)] if name in names else []


def _way_out(where: str, named: tuple[str, ...], head: list[str]) -> str:
    """What to do about a first line that does not name what it must."""
    if len(head) == 1 and (mark := next((mark for mark in ";\t|" if mark in head[0]), "")):
        return f"; its columns are parted by {mark!r}: save it with commas"
    if named or len(head) < 2:
        return ""
    return f"; or name two, as --labels csv:{where}#{shown(head[0])},{shown(head[1])}"


def _read(where: str, folder: Path) -> tuple[str, str]:
    """The csv's text, and the path of the folder that it lies in, if on this machine.

    It is looked for as named, and then, for one that came in the archive, inside the dataset.
    """
    for spot in [where, os.path.join(folder, where)] if is_local(where) else [where]:
        source, name = file_in(spot)
        if source.exists(name):
            break
    else:
        raise PlaceError(f"{where}: no such file; --labels csv: takes one with path,label")
    try:
        text = source.read(name).decode("utf-8-sig")
    except OSError as error:
        raise PlaceError(f"{where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{where}: not UTF-8 text ({error}); save it as a UTF-8 CSV") from error
    return text, os.path.abspath(source.root) if isinstance(source, LocalPlace) else ""


def _bool(line: _Line, where: str) -> bool:
    try:
        return _BOOLS[(line.is_valid or "").strip().lower()]
    except KeyError:
        raise TableError(
            f"{where}: line {line.number}: is_valid of {shown(line.path)} is {line.is_valid!r}; "
            "write True or False"
        ) from None
