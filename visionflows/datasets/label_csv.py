"""Read labels from a CSV: its columns, the image of each line, and the split."""

import csv
import io
import itertools
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from visionflows.datasets.content_sniffing import sniff_table
from visionflows.datasets.folder_layout import (
    TEST,
    TRAIN,
    VALID,
    Layout,
    Row,
    apply_split,
    split_roles,
)
from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.label_cells import check_ones, ones, parse_lists
from visionflows.datasets.label_columns import IS_VALID, Columns, Head
from visionflows.datasets.label_file import LabelFile
from visionflows.datasets.label_rules import LabelRule
from visionflows.datasets.listed_images import Listed, ListedImages
from visionflows.datasets.path_matching import PathMatcher

SAMPLE = 50  # lines that show what the columns hold
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[ \t]*\r?\n', re.IGNORECASE)  # written by Excel
_BOOLS = {
    **dict.fromkeys(("true", "1", "1.0", "yes", "valid", "validation", "val", "dev"), VALID),
    **dict.fromkeys(("false", "0", "0.0", "no", "train", "training"), TRAIN),
}


@dataclass(frozen=True)
class LabelCsv:
    """The CSV of a label rule, with labels of images in a folder.

    Its columns are the ones that the rule names, or the only ones that are known
    (visionflows.datasets.label_columns). `group` is the column of groups.
    """

    rule: LabelRule
    file: LabelFile
    group: str = ""

    def rows(self, matcher: PathMatcher, layout: Layout) -> tuple[list[Row], list[str]]:
        """The rows of the images that it lists, sorted by path; and notes.

        A row has a group, perhaps empty. The split is that of the CSV, else that of the folders.
        Raises TableError if the CSV does not fit the folder.
        """
        columns, lines = self._parse(self._text(), matcher)
        lines, notes = self._with_roles(columns, lines)
        if columns.classes:
            aside = ", and --label-sep parts nothing" if self.rule.separator else ""
            names = format_names([*columns.class_names])
            notes.append(f"classes by {len(columns.classes)} columns of 0 and 1{aside}: {names}")
        listed = ListedImages(self.file, self.rule, lines, "line", columns.folder >= 0)
        rows, more = listed.rows(matcher, layout)
        notes += more
        roles = [row.pop("role") for row in rows]
        if not any(roles):
            return rows, [*notes, *layout.split(rows, is_listed=True)]
        why = f"a test image by the column {format_name(columns.split_name)}"
        is_given = columns.split_name == IS_VALID  # it counts even with nothing to validate on
        apply_split(rows, [(role, why if role == TEST else "") for role in roles], "csv", is_given)
        return rows, notes

    def _text(self) -> str:
        data = self.file.read()
        if content := sniff_table(data):
            self.file.fail(f"is {content.name}; {content.advice}")
        return data.decode("utf-8-sig")

    def _parse(self, text: str, matcher: PathMatcher) -> tuple[Columns, list[Listed]]:
        """The columns of the first line, and the other lines that are not blank."""
        lines = self._cells(text)
        _, header = next(lines, (0, []))
        header = [cell.strip() for cell in header]
        sample = [*itertools.islice(lines, SAMPLE)]
        head = Head(self.file.location, header, [cells for _, cells in sample], matcher)
        columns = head.choose(self.rule.columns, self.group)
        listed = []
        for number, cells in itertools.chain(sample, lines):
            listed.append(self._line(number, cells, columns, len(header)))
            self.file.check_count(len(listed))
        if columns.classes:
            several = self.rule.multi_label is True
            return columns, check_ones(self.file, columns.class_names, listed, several)
        return columns, listed if self.rule.separator else parse_lists(self.file, listed)

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
            self.file.fail(f"not a CSV ({error}, {span}); {advice}", error)

    def _line(self, number: int, cells: list[str], columns: Columns, width: int) -> Listed:
        if any(map(str.strip, cells[width:])):
            self.file.fail(
                f"line {number} has {len(cells)} cells and the first line {width}; quote a cell "
                "that holds a comma"
            )
        by_position = dict(enumerate(cells))
        path, *others = (by_position.get(at, "") for at in columns[:5])
        label, folder, split, group = (cell.strip() for cell in others)
        labels: tuple[str, ...] | None = (label,) if self.rule.multi_label and label else None
        if columns.classes:
            values = [by_position.get(at, "").strip() for at in columns.classes]
            labels = ones(self.file, number, columns.class_names, values)
        elif self.rule.separator and label:
            labels = tuple(part.strip() for part in label.split(self.rule.separator))
        return Listed(number, _join(folder, path), label, split, group, labels)

    def _with_roles(self, columns: Columns, lines: list[Listed]) -> tuple[list[Listed], list[str]]:
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
            self.file.fail(f"line {unknown.number}: {name} of {image} is {text}; write {values}")
        texts = {TRAIN: "to train on", VALID: "to validate on", TEST: "test images"}
        counts = [f"{roles.count(role)} {text}" for role, text in texts.items() if role in roles]
        note = f"the split is that of the column {name}: {', '.join(counts)}"
        return lines, [] if columns.split_name == IS_VALID else [note]


def _join(folder: str, name: str) -> str:
    """The path of a file of which a column has the folder, as Timelapse writes it."""
    folder = folder.replace("\\", "/").rstrip("/")
    if not folder or "/" in name or "\\" in name:
        return name
    return folder if posixpath.basename(folder) == name else f"{folder}/{name}"
