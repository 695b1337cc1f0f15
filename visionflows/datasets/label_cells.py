"""Several labels in a line of a label CSV: a cell that holds a list, or columns of 0 and 1."""

import json
import re
from collections.abc import Sequence

from visionflows.datasets.format_names import format_name
from visionflows.datasets.label_file import LabelFile
from visionflows.datasets.listed_images import Listed

ONES, ZEROS = {"1", "1.0", "true"}, {"0", "0.0", "false"}  # in any case
_LIST = re.compile(r"\[.*\]", re.DOTALL)
_ITEM = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,'"\[\]]*))\s*(,|$)""")


def parse_lists(file: LabelFile, lines: list[Listed]) -> list[Listed]:
    """The lines with the labels in their lists, if each label that is there is a list."""
    if not all(_LIST.fullmatch(line.label) for line in lines if line.label):
        return lines
    return [line._replace(labels=_parse_list(file, line)) if line.label else line for line in lines]


def _parse_list(file: LabelFile, line: Listed) -> tuple[str, ...]:
    """The labels in a list such as `['Comedy', 'Drama']`, of Python, or of JSON."""
    try:
        labels = json.loads(line.label)
    except (ValueError, RecursionError):
        labels, at, text = [], 0, line.label[1:-1]
        while at < len(text):
            if not (item := _ITEM.match(text, at)) or item.end() == at:
                labels = None
                break
            at = item.end()
            quoted = next((each for each in item.groups()[:2] if each is not None), None)
            labels.append(item[3].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
    if labels is None or not all(isinstance(label, str | int | float) for label in labels):
        shown = format_name(line.label)
        file.fail(f"line {line.number}: {shown} is no list of labels; write ['cat', 'dog']")
    return tuple(text for label in labels if (text := str(label).strip()))


def ones(file: LabelFile, number: int, names: Sequence[str], cells: list[str]) -> tuple[str, ...]:
    """The names of the columns of classes in which a line has a 1."""
    labels = []
    for name, cell in zip(names, cells, strict=True):
        if cell.casefold() in ONES:
            labels.append(name)
        elif cell.casefold() not in ZEROS:
            file.fail(
                f"line {number}: the column {format_name(name)} has {cell!r}, where others have 0 "
                "or 1; write one of these"
            )
    return tuple(labels)


def check_ones(
    file: LabelFile, names: Sequence[str], lines: list[Listed], several: bool
) -> list[Listed]:
    """The lines of columns of 0 and 1; with one label each, unless there are `several` in some."""
    used = {label for line in lines for label in line.labels or ()}
    if unused := [name for name in names if name not in used]:
        file.fail(f"no line has a 1 in the column {format_name(unused[0])}; take the column out")
    if several or any(len(line.labels or ()) != 1 for line in lines):
        return lines
    return [line._replace(label=(line.labels or ("",))[0], labels=None) for line in lines]
