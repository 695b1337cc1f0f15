"""Read labels from a CSV: its columns, the image of each line, and the split."""

import csv
import io
import itertools
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

from visionflows.datasets.content_sniffing import sniff_table
from visionflows.datasets.folder_layout import (
    TEST,
    TRAIN,
    VALID,
    Layout,
    Row,
    apply_split,
    nfc,
    split_roles,
)
from visionflows.datasets.format_names import first_three, format_name, format_names
from visionflows.datasets.label_columns import IS_VALID, Columns, Head
from visionflows.datasets.path_matching import Match, PathMatcher
from visionflows.errors import StorageError, TableError
from visionflows.storage import absolute, open_storage, split_location

SAMPLE = 50  # lines that show what the columns hold
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[ \t]*\r?\n', re.IGNORECASE)  # written by Excel
_BOOLS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "valid", "validation", "val", "dev"), VALID),
    **dict.fromkeys(("false", "0", "0.0", "no", "train", "training"), TRAIN),
}


class _Line(NamedTuple):
    """A line that names an image, numbered as editors count; its `role` in the split, if any."""

    number: int
    path: str
    label: str
    split: str
    group: str
    role: str = ""


@dataclass(frozen=True)
class LabelCsv:
    """The CSV at a location, with labels of images in a folder.

    Its columns are the `named` ones, `path` and `label`, or the only ones that are known
    (visionflows.datasets.label_columns).
    """

    location: str
    named: tuple[str, ...]
    folder: Path
    group: str = ""  # the column of groups

    def rows(self, paths: list[str]) -> tuple[list[Row], list[str]]:
        """The rows of the images (`paths` in the folder) that it lists, sorted by path; and notes.

        A row has a group, perhaps empty. The split is that of the CSV, else that of the folders.
        Raises StorageError if there is no such CSV, and TableError if it does not fit the folder.
        """
        text, csv_folder = self._read()
        matcher = PathMatcher(paths, os.path.abspath(self.folder), csv_folder)
        columns, lines = self._parse(text, matcher)
        lines, notes = self._with_roles(columns, lines)
        layout = Layout(paths, classes=False)
        matches, more = _find_images(lines, matcher, layout)
        rows = self._rows(lines, matches, matcher.folder, columns.folder >= 0)
        notes += more
        if not any(row["label"] for row in rows):
            self._fail("has no row with a label; fill in its column of labels")
        roles = [row.pop("role") for row in rows]
        if not any(roles):
            return rows, [*notes, *layout.split(rows, is_listed=True)]
        why = f"a test image by the column {format_name(columns.split_name)}"
        is_given = columns.split_name == IS_VALID  # it counts even with nothing to validate on
        apply_split(rows, [(role, why if role == TEST else "") for role in roles], "csv", is_given)
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
            data = storage.read(name)
        except OSError as error:
            raise StorageError(f"{self.location}: cannot be read ({error.strerror})") from error
        if content := sniff_table(data):
            self._fail(f"is {content.name}; {content.advice}")
        return data.decode("utf-8-sig"), os.path.dirname(absolute(location)) if inside else ""

    def _parse(self, text: str, matcher: PathMatcher) -> tuple[Columns, list[_Line]]:
        """The columns of the first line, and the other lines that are not blank."""
        lines = self._cells(text)
        _, header = next(lines, (0, []))
        header = [cell.strip() for cell in header]
        sample = [*itertools.islice(lines, SAMPLE)]
        head = Head(self.location, header, [cells for _, cells in sample], matcher)
        columns = head.choose(self.named, self.group)
        return columns, [
            self._line(number, cells, columns, len(header))
            for number, cells in itertools.chain(sample, lines)
        ]

    def _cells(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """The cells of each line that is not blank, with its number."""
        separator = _SEPARATOR_LINE.match(text)
        text, first = (text[separator.end() :], 2) if separator else (text, 1)
        delimiter = separator[1] if separator else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        number = first
        try:
            for cells in reader:
                if any(map(str.strip, cells)):
                    yield number, cells
                number = reader.line_num + first
        except csv.Error as error:
            last = reader.line_num + first - 1
            span = f"lines {number} to {last}" if last > number else f"line {number}"
            advice = "close what is quoted there, or take the quote out"
            self._fail(f"not a CSV ({error}, {span}); {advice}", error)

    def _line(self, number: int, cells: list[str], columns: Columns, width: int) -> _Line:
        if any(map(str.strip, cells[width:])):
            self._fail(
                f"line {number} has {len(cells)} cells and the first line {width}; quote a cell "
                "that holds a comma"
            )
        by_position = dict(enumerate(cells))
        path, *others = (by_position.get(at, "") for at in columns[:5])
        label, folder, split, group = (cell.strip() for cell in others)
        return _Line(number, _join(folder, path), label, split, group)

    def _with_roles(self, columns: Columns, lines: list[_Line]) -> tuple[list[_Line], list[str]]:
        """The lines with their roles in the split that a column gives, if it does; and notes."""
        if columns.split < 0:
            return lines, []
        name, splits = format_name(columns.split_name), [line.split for line in lines]
        if columns.split_name == IS_VALID:
            roles, values = [_BOOLS.get(split.lower(), "") for split in splits], "True or False"
        else:
            roles, values = split_roles(splits), "train, valid or test"
            if len(known := {*roles} - {""}) < 2:
                note = f"the column {name} is not used as a split: its values are "
                note += format_names([*dict.fromkeys(splits)])
                return lines, [note] if known and {*roles} != {TRAIN} else []
        lines = [line._replace(role=role) for line, role in zip(lines, roles, strict=True)]
        if unknown := next((line for line in lines if not line.role), None):
            image, text = format_name(unknown.path), repr(unknown.split)
            self._fail(f"line {unknown.number}: {name} of {image} is {text}; write {values}")
        texts = {TRAIN: "to train on", VALID: "to validate on", TEST: "test images"}
        counts = [f"{roles.count(role)} {text}" for role, text in texts.items() if role in roles]
        note = f"the split is that of the column {name}: {', '.join(counts)}"
        return lines, [] if columns.split_name == IS_VALID else [note]

    def _rows(
        self, lines: list[_Line], matches: list[Match], folder: str, has_folders: bool
    ) -> list[Row]:
        """A row of path, label, role and group for each image that lines name."""
        rows: dict[str, tuple[Row, _Line, str]] = {}
        unmatched = []
        for line, match in zip(lines, matches, strict=True):
            if len(match.paths) != 1:
                if line.role != TEST:  # test images are often elsewhere
                    unmatched.append((line, match.paths))
                continue
            (path,) = match.paths
            row = {"path": path, "label": line.label, "role": line.role, "group": nfc(line.group)}
            first, first_line, above = rows.setdefault(path, (row, line, match.above))
            if first != row or (above and match.above and above != match.above):
                self._fail(
                    f"names {format_name(path)} twice, with different values or folders "
                    f"(lines {first_line.number} and {line.number}); take one of them out"
                )
        if unmatched:
            self._fail(_describe(unmatched, folder, has_folders))
        return [rows[path][0] for path in sorted(rows)]

    def _fail(self, reason: str, cause: Exception | None = None) -> NoReturn:
        raise TableError(f"{self.location}: {reason}") from cause


def _find_images(
    lines: list[_Line], matcher: PathMatcher, layout: Layout
) -> tuple[list[Match], list[str]]:
    """The images that each line may name; and notes on what was decided."""
    found = [matcher.find(line.path) for line in lines]
    above = {match.above for match in found if match.above}
    other = {each for each in above if not matcher.is_own_folder(each)}
    notes = []
    if other != above:  # some lines name the dataset's own folder: the others mean another one
        found = [Match([]) if match.above in other else match for match in found]
    elif other:
        notes.append(
            f"its paths begin with {format_names(sorted(other))}, which is not the folder of "
            f"the dataset, {matcher.folder}: they were matched by what follows; check "
            "that they mean the same images"
        )
    chosen = [
        match if line.role == TEST else _without_tests(match, layout)
        for line, match in zip(lines, found, strict=True)
    ]
    if count := sum(len(a.paths) != len(b.paths) for a, b in zip(found, chosen, strict=True)):
        notes.append(f"{count} names are of a test image too; those are not used")
    return chosen, notes


def _without_tests(match: Match, layout: Layout) -> Match:
    """Of several images the only one that is not in a test folder, as Kaggle's ids mean."""
    if len(match.paths) < 2:
        return match
    folders = layout.folders
    kept = [path for path in match.paths if folders[posixpath.dirname(path)].role != TEST]
    return match._replace(paths=kept) if len(kept) == 1 else match


def _describe(unmatched: list[tuple[_Line, list[str]]], folder: str, has_folders: bool) -> str:
    """The error for lines that name no image or, if there are none of these, several."""
    missing = [line for line, found in unmatched if not found]
    lines = missing or [line for line, _ in unmatched]
    numbers = first_three([str(line.number) for line in lines])
    span = f"(line{'s' if lines[1:] else ''} {numbers})"
    names = [line.path for line in lines]
    if missing:
        joined = ", with the column of folders" if has_folders else ""
        return (
            f"{len(lines)} of its paths name no image in {folder} {span}: {format_names(names)}"
            f"{joined}; write them from that folder on, or take those lines out"
        )
    remarks = [format_names(found) for _, found in unmatched]
    return (
        f"{len(lines)} of its paths may mean several images {span}: "
        f"{format_names(names, remarks)}; write their folders and endings too"
    )


def _join(folder: str, name: str) -> str:
    """The path of a file of which a column has the folder, as Timelapse writes it."""
    folder = folder.replace("\\", "/").rstrip("/")
    if not folder or "/" in name or "\\" in name:
        return name
    return folder if posixpath.basename(folder) == name else f"{folder}/{name}"
