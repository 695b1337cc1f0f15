"""Read labels from a CSV: its columns, the image of each line, and the split."""

import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from visionflows.datasets.folder_layout import (
    TEST,
    TRAIN,
    VALID,
    Layout,
    apply_split,
    nfc,
    split_role,
)
from visionflows.datasets.format_names import first_three, format_name, format_names
from visionflows.datasets.path_matching import PathMatcher
from visionflows.errors import StorageError, TableError
from visionflows.storage import absolute, open_storage, split_location

FILE_COLUMNS = (
    *("file", "file_name", "filename", "filepath", "image", "image_name", "image_path"),
    *("image_id", "id"),
)
LABEL_COLUMNS = ("label", "class", "class_name", "category", "breed", "species", "target")
IS_VALID = "is_valid"  # True or False in each line
SPLIT_COLUMNS = (  # the first one counts
    *(IS_VALID, "split", "set", "data set", "data_set", "dataset", "subset", "partition"),
)
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[ \t]*\r?\n', re.IGNORECASE)  # written by Excel
_BOOLS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "valid", "validation", "val", "dev"), VALID),
    **dict.fromkeys(("false", "0", "0.0", "no", "train", "training"), TRAIN),
}


class _Columns(NamedTuple):
    """The positions of the columns; `split` and `group` are negative if there is none."""

    path: int
    label: int
    split: int
    group: int
    split_name: str


class _Line(NamedTuple):
    """A line that names an image, numbered as editors count."""

    number: int
    path: str
    label: str
    split: str
    group: str


@dataclass(frozen=True)
class LabelCsv:
    """The CSV at a location, with labels of images in a folder.

    Its columns are the `named` ones, `path` and `label`, or the only ones of FILE_COLUMNS and
    LABEL_COLUMNS.
    """

    location: str
    named: tuple[str, ...]
    folder: Path
    group: str = ""  # the column of groups

    def rows(self, paths: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
        """The rows of the images (`paths` in the folder) that it lists, sorted by path; and notes.

        A row has a group, perhaps empty. The split is that of the CSV, else that of the folders.
        Raises StorageError if there is no such CSV, and TableError if it does not fit the folder.
        """
        text, csv_folder = self._read()
        columns, lines = self._parse(text)
        roles, notes = self._roles(columns, lines)
        matcher = PathMatcher(paths, os.path.abspath(self.folder), csv_folder)
        rows = self._match(matcher, lines, roles)
        if not any(row["label"] for row in rows):
            self._fail("has no row with a label; fill in its column of labels")
        sides = [row.pop("role") for row in rows]
        if not roles:
            return rows, [*notes, *Layout(paths, classes=False).split(rows, is_listed=True)]
        why = f"a test image by the column {format_name(columns.split_name)}"
        is_given = columns.split_name == IS_VALID  # it counts even with nothing to validate on
        apply_split(rows, [(role, why if role == TEST else "") for role in sides], "csv", is_given)
        return rows, notes

    def _read(self) -> tuple[str, str]:
        """The CSV's text, and the folder that it is in if that is on this machine.

        A relative path is looked up from the current folder, then from the dataset.
        """
        local = open_storage(self.location).is_local
        inside = [os.path.join(self.folder, self.location)] if local else []
        for location in (self.location, *inside):
            storage, name = split_location(location)
            if storage.exists(name):
                break
        else:
            raise StorageError(
                f"{self.location}: no such file; --labels csv: takes one with path,label"
            )
        try:
            text = storage.read(name).decode("utf-8-sig")
        except OSError as error:
            raise StorageError(f"{self.location}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            self._fail(f"not UTF-8 text ({error}); save it as a UTF-8 CSV", error)
        return text, os.path.dirname(absolute(location)) if inside else ""

    def _parse(self, text: str) -> tuple[_Columns, list[_Line]]:
        """The columns of the first line, and the other lines that are not blank."""
        separator = _SEPARATOR_LINE.match(text)
        text, first = (text[separator.end() :], 2) if separator else (text, 1)
        delimiter = separator[1] if separator else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        columns, number, lines = None, first, []
        try:
            for cells in reader:
                if any(map(str.strip, cells)):
                    if columns is None:
                        columns = self._columns([cell.strip() for cell in cells])
                    else:
                        by_position = dict(enumerate(cells))
                        path, *others = (by_position.get(at, "") for at in columns[:4])
                        lines.append(_Line(number, path, *(cell.strip() for cell in others)))
                number = reader.line_num + first
        except csv.Error as error:
            last = reader.line_num + first - 1
            span = f"lines {number} to {last}" if last > number else f"line {number}"
            advice = "close what is quoted there, or take the quote out"
            self._fail(f"not a CSV ({error}, {span}); {advice}", error)
        return columns or self._columns([]), lines

    def _columns(self, header: list[str]) -> _Columns:
        names = [name.casefold() for name in header]
        known: tuple[tuple[str, ...], ...] = (("path",), ("label",))
        if self.named:
            known = tuple((name.casefold(),) for name in self.named)
        elif "path" not in names and {*names} & {*FILE_COLUMNS}:
            known = FILE_COLUMNS, LABEL_COLUMNS
        found = [[at for at, name in enumerate(names) if name in columns] for columns in known]
        wanted = self.named or ("path", "label")
        missing = [name for name, columns in zip(wanted, found, strict=True) if not columns]
        if missing:
            self._fail(
                f"lacks the column {' and '.join(map(format_name, missing))}; its first line must "
                f"name {' and '.join(map(format_name, wanted))}, and says "
                f"{format_names(header) or 'nothing'}{self._advice(header)}"
            )
        for columns in found:
            if len(columns) > 1:
                several = format_names([header[at] for at in columns])
                example = ",".join(header[at[0]] for at in found)
                self._fail(
                    f"has the columns {several}; say which is meant, such as "
                    f"--labels csv:{self.location}#{example}"
                )
        (path,), (label,) = found
        splits = (names.index(name) for name in SPLIT_COLUMNS if name in names)
        split = next((at for at in splits if at not in (path, label)), -1)
        group = self._group_column(header)
        return _Columns(path, label, split, group, names[split] if split >= 0 else "")

    def _group_column(self, header: list[str]) -> int:
        """The position of the column of groups, negative if none is wanted."""
        found = [at for at, name in enumerate(header) if name.casefold() == self.group.casefold()]
        if self.group and len(found) != 1:
            self._fail(
                f"has {len(found) or 'no'} columns {format_name(self.group)}, of --group "
                f"column:{self.group}; its first line says {format_names(header)}"
            )
        return found[0] if self.group else -1

    def _advice(self, header: list[str]) -> str:
        """What to do about a first line that lacks a column."""
        if len(header) == 1 and (sign := next((sign for sign in ";\t|" if sign in header[0]), "")):
            return f"; its columns are parted by {sign!r}: save it with commas"
        if self.named or len(header) < 2:
            return ""
        example = ",".join(map(format_name, header[:2]))
        return f"; or name two, as --labels csv:{self.location}#{example}"

    def _roles(self, columns: _Columns, lines: list[_Line]) -> tuple[list[str], list[str]]:
        """The role of each line in the split that a column gives, or nothing; and notes."""
        if columns.split < 0:
            return [], []
        if columns.split_name == IS_VALID:
            roles = [_BOOLS.get(line.split.lower(), "") for line in lines]
            self._check_roles(lines, roles, IS_VALID, "True or False")
            return roles, []
        roles = [split_role(line.split) for line in lines]
        name, known = format_name(columns.split_name), {*roles} - {""}
        if len(known) < 2:
            values = format_names([*dict.fromkeys(line.split for line in lines)])
            note = f"the column {name} is not used as a split: it says {values}"
            return [], [note] if known and {*roles} != {TRAIN} else []
        self._check_roles(lines, roles, name, "train, valid or test")
        texts = {TRAIN: "to train on", VALID: "to validate on", TEST: "test images"}
        counts = [f"{roles.count(role)} {text}" for role, text in texts.items() if role in roles]
        return roles, [f"the split is that of the column {name}: {', '.join(counts)}"]

    def _check_roles(self, lines: list[_Line], roles: list[str], column: str, values: str) -> None:
        for line, role in zip(lines, roles, strict=True):
            if not role:
                self._fail(
                    f"line {line.number}: {column} of {format_name(line.path)} is {line.split!r}; "
                    f"write {values}"
                )

    def _match(
        self, matcher: PathMatcher, lines: list[_Line], roles: list[str]
    ) -> list[dict[str, Any]]:
        """A row of path, label and role for each image that lines name."""
        rows: dict[str, tuple[dict[str, Any], int]] = {}
        unmatched = []
        for line, role in zip(lines, roles or [""] * len(lines), strict=True):
            found = matcher.find(line.path)
            if len(found) != 1:
                if role != TEST:  # test images are often elsewhere
                    unmatched.append((line, found))
                continue
            row = {"path": found[0], "label": line.label, "role": role, "group": nfc(line.group)}
            first, number = rows.setdefault(found[0], (row, line.number))
            if first != row:
                self._fail(
                    f"names {format_name(found[0])} twice, with different values "
                    f"(lines {number} and {line.number}); take one of them out"
                )
        if unmatched:
            self._fail(self._describe(unmatched))
        return [rows[path][0] for path in sorted(rows)]

    def _describe(self, unmatched: list[tuple[_Line, list[str]]]) -> str:
        """The error for lines that name no image or, if there are none of these, several."""
        missing = [line for line, found in unmatched if not found]
        lines = missing or [line for line, _ in unmatched]
        numbers = first_three([str(line.number) for line in lines])
        span = f"(line{'s' if lines[1:] else ''} {numbers})"
        names = [line.path for line in lines]
        if missing:
            return (
                f"{len(lines)} of its paths name no image in {self.folder} {span}: "
                f"{format_names(names)}; write them from that folder on, or take those lines out"
            )
        remarks = [format_names(found) for _, found in unmatched]
        return (
            f"{len(lines)} of its paths may mean several images {span}: "
            f"{format_names(names, remarks)}; write their folders and endings too"
        )

    def _fail(self, reason: str, cause: Exception | None = None) -> NoReturn:
        raise TableError(f"{self.location}: {reason}") from cause
