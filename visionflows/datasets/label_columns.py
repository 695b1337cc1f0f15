"""Choose the columns of a label CSV: by their known names, or by the names that a user gives."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.label_cells import ONES, ZEROS
from visionflows.datasets.path_matching import PathMatcher
from visionflows.errors import TableError
from visionflows.images.formats import is_image_name

FILE_COLUMNS = (
    *("file", "file_name", "filename", "filepath", "image", "image_name", "image_path"),
    *("image_id", "id"),
)
LABEL_COLUMNS = ("label", "class", "class_name", "category", "breed", "species", "target")
FOLDER_COLUMNS = ("relativepath", "relative_path", "folder", "directory", "subfolder")
IS_VALID = "is_valid"  # True or False in each line
SPLIT_COLUMNS = (  # the first one counts
    *(IS_VALID, "split", "set", "data set", "data_set", "dataset", "subset", "partition"),
)
_SUGGESTED = ("choice", "labels", "tags", "finding labels", "dx", "diagnosis", "common_name")
_NO_CLASSES = (*FOLDER_COLUMNS, *SPLIT_COLUMNS, "", "unnamed: 0")  # pandas' index
ALL_CLASSES = "*"  # instead of the name of the column of labels
_FRACTION = re.compile(r"\d*\.\d+(e-?\d+)?", re.IGNORECASE)


class Columns(NamedTuple):
    """The positions of the columns; those but `path` are negative if there is none.

    Without a column of labels there is one of 0 and 1 for each of the `classes`.
    """

    path: int
    label: int
    folder: int
    split: int
    group: int
    split_name: str
    classes: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()


class Head(NamedTuple):
    """The first line of the CSV at a location, and a few lines after it."""

    location: str
    header: list[str]
    sample: Sequence[list[str]]
    matcher: PathMatcher

    def choose(self, named: tuple[str, ...], group: str) -> Columns:
        """The columns `named` path and label, or the only known ones. Raises TableError."""
        names = [name.casefold() for name in self.header]
        found = self._find(names, named)
        path, label = found
        if is_image_name(self.header[path]):
            raise self._no_header(self.header[path])
        splits = (names.index(name) for name in SPLIT_COLUMNS if name in names)
        split = next((at for at in splits if at not in found), -1)
        folders = [at for at, name in enumerate(names) if name in FOLDER_COLUMNS]
        folder = folders[0] if len(folders) == 1 and folders[0] not in found else -1
        split_name = names[split] if split >= 0 else ""
        at_group = self._group(group)
        columns = Columns(path, label, folder, split, at_group, split_name)
        if label >= 0:
            return columns
        classes = tuple(at for at in self._one_hot() if at not in (path, at_group))
        class_names = tuple(self.header[at] for at in classes)
        if twice := [name for name in class_names if class_names.count(name) > 1]:
            raise TableError(
                f"{self.location}: has two columns {format_name(twice[0])}; take one out"
            )
        return columns._replace(classes=classes, class_names=class_names)

    def _find(self, names: list[str], named: tuple[str, ...]) -> list[int]:
        """The positions of the columns of paths and labels; -1 if there is one for each class."""
        known: tuple[tuple[str, ...], ...] = (("path",), ("label",))
        if named:
            known = tuple((name.casefold(),) for name in named)
        elif "path" not in names and {*names} & {*FILE_COLUMNS}:
            known = FILE_COLUMNS, LABEL_COLUMNS
        found = [[at for at, name in enumerate(names) if name in columns] for columns in known]
        is_each = not named or named[1] == ALL_CLASSES
        if found[0] and not found[1] and is_each and self._one_hot():
            found[1] = [-1]
        wanted = named or ("path", "label")
        missing = [name for name, columns in zip(wanted, found, strict=True) if not columns]
        if missing:
            if image := next(filter(self._is_image, self.header), ""):
                raise self._no_header(image)
            raise TableError(
                f"{self.location}: lacks the column {' and '.join(map(format_name, missing))}; its "
                f"first line must name {' and '.join(map(format_name, wanted))}, and has "
                f"{format_names(self.header) or 'nothing'}{self._advice(bool(named))}"
            )
        for columns in found:
            if len(columns) > 1:
                several = format_names([self.header[at] for at in columns])
                example = ",".join(self.suggest() or [self.header[at[0]] for at in found])
                raise TableError(
                    f"{self.location}: has the columns {several}; say which is meant, such as "
                    f"--labels csv:{self.location}#{example}"
                )
        return [at for (at,) in found]

    def _group(self, group: str) -> int:
        """The position of the column of groups, negative if none is wanted."""
        found = [at for at, name in enumerate(self.header) if name.casefold() == group.casefold()]
        if group and len(found) != 1:
            raise TableError(
                f"{self.location}: has {len(found) or 'no'} columns {format_name(group)}, of "
                f"--group column:{group}; its first line names {format_names(self.header)}"
            )
        return found[0] if group else -1

    def _advice(self, is_named: bool) -> str:
        """What to do about a first line that lacks a column."""
        header = self.header
        if len(header) == 1 and (sign := next((sign for sign in ";\t|" if sign in header[0]), "")):
            return f"; its columns are parted by {sign!r}: save it with commas"
        if len(header) == 1 and is_image_name(header[0].partition(" ")[0]):
            return "; its columns are parted by blanks: write commas, and path,label as first line"
        if is_named or len(header) < 2:
            return ""
        if classes := format_names([self.header[at] for at in self._one_hot()]):
            return (
                f"; it has a column for each class ({classes}): "
                f"name the column of paths, as --labels csv:{self.location}#PATH,{ALL_CLASSES}"
            )
        names = self.suggest() or (header if len(header) == 2 else ["PATH", "LABEL"])
        example = ",".join(map(format_name, names))
        return f"; or name two, as --labels csv:{self.location}#{example}"

    def _is_image(self, cell: str) -> bool:
        """Whether a cell is the path of an image, and so not the name of a column."""
        known = (*FILE_COLUMNS, *LABEL_COLUMNS, "path")
        return is_image_name(cell) or (
            cell.casefold() not in known and len(self.matcher.find(cell).paths) == 1
        )

    def _no_header(self, cell: str) -> TableError:
        return TableError(
            f"{self.location}: has no line of column names: its first line is of an image, "
            f"{format_name(cell)}; write the line path,label above it"
        )

    def _one_hot(self) -> list[int]:
        """The positions of columns that hold 0 and 1 only, if there are at least two."""
        found = [
            at
            for at, name in enumerate(self.header)
            if name.casefold() not in _NO_CLASSES
            and self.sample
            and {cell.casefold() for cell in self._cells(at)} <= ONES | ZEROS
        ]
        return found if len(found) > 1 else []

    def suggest(self) -> list[str]:
        """The names of the columns that hold paths and labels, by their cells; empty if unclear."""
        scores = [
            sum(bool(self.matcher.find(cell).paths) for cell in self._cells(at) if cell)
            for at in range(len(self.header))
        ]
        path = scores.index(max(scores))
        others = [at for at in range(len(self.header)) if at != path]
        labels = [at for at in others if self.header[at].casefold() in LABEL_COLUMNS + _SUGGESTED]
        labels += sorted(
            filter(self._may_be_labels, others),
            key=lambda at: len({*self._cells(at)}),
        )
        if not max(scores) or not labels:
            return []
        return [self.header[path], self.header[labels[0]]]

    def _may_be_labels(self, at: int) -> bool:
        """Whether a column holds several values, not only probabilities or marks of one class."""
        values = {*self._cells(at)} - {""}
        return len(values) > 1 and not all(map(_FRACTION.fullmatch, values))

    def _cells(self, at: int) -> list[str]:
        return [cells[at].strip() if at < len(cells) else "" for cells in self.sample]
