"""The rules that give a dataset's images their labels."""

import dataclasses
import posixpath
import re
from pathlib import Path

from visionflows.datasets.class_names import class_notes
from visionflows.datasets.folder_layout import NO_LABEL, Layout, Row, nfc
from visionflows.datasets.format_names import format_names
from visionflows.datasets.label_csv import LabelCsv
from visionflows.datasets.masks import MASK, find_masks
from visionflows.errors import SettingsError, TableError
from visionflows.escaping import printable
from visionflows.storage.local import LocalStorage

_CSV = re.compile(r"(.+)#([^#,]+),([^#,]+)", re.DOTALL)  # the last #: a name may have one too


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """Where labels come from."""

    kind: str  # folder, uppercase, regex or csv
    value: str = ""  # the class names, the regex's pattern, or the CSV's location
    columns: tuple[str, ...] = ()  # of the CSV: path and label, if they are named

    def __str__(self) -> str:
        columns = f"#{','.join(self.columns)}" if self.columns else ""
        return f"{self.kind}:{self.value}{columns}" if self.value else self.kind

    def label(self, path: str) -> str:
        """The label in a file's name, folders aside; empty if there is none."""
        name = nfc(posixpath.basename(path))
        if self.kind == "uppercase":  # fastai's tutorial: is_cat(x) is x[0].isupper()
            return (self.value or "False,True").split(",")[name[0].isupper()]
        match = re.search(nfc(self.value), name)  # as fastai's RegexLabeller does by default
        return (match and match[1]) or ""


def parse_label_rule(text: str) -> LabelRule:
    """The rule for `folder`, `uppercase`, `regex:PATTERN` or `csv:LOCATION[#path,label]`.

    `uppercase:dog,cat` names its classes: for small first letters, and for capitals.
    Raises SettingsError for any other, for class names that are not two different ones, and for a
    pattern without exactly one group.
    """
    kind, colon, value = text.partition(":")
    if kind in ("folder", "uppercase") and not colon:
        return LabelRule(kind)
    if kind == "uppercase":
        return LabelRule(kind, _class_names(text, value))
    if kind == "csv" and value:
        match = _CSV.fullmatch(value)
        location, *columns = match.groups() if match else [value]
        return LabelRule("csv", location, tuple(columns))
    if kind != "regex":
        raise SettingsError(
            f"--labels {text}: no such rule; give folder, uppercase, regex:<pattern with one group>"
            " or csv:<path or URI>, with #PATH,LABEL to name its columns"
        )
    check_pattern(f"--labels {text}", value, "the label")
    return LabelRule("regex", value)


def check_pattern(option: str, pattern: str, wanted: str) -> None:
    """Raise SettingsError if a pattern does not have exactly one group, for what is `wanted`."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise SettingsError(f"{option}: not a regular expression: {error}") from error
    if groups != 1:
        raise SettingsError(
            f"{option}: has {groups} groups; put one (…) around {wanted}, and write "
            "other groups as (?:…)"
        )


def _class_names(text: str, value: str) -> str:
    """The names of the classes of `uppercase`, parted by a comma. Raises SettingsError."""
    names = [nfc(name.strip()) for name in value.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise SettingsError(
            f"--labels {text}: name the two classes, small first letters before capitals, such as "
            "dog,cat"
        )
    return ",".join(names)


def label_rows(
    rule: LabelRule, folder: Path, paths: list[str], group_column: str = ""
) -> tuple[list[Row], list[str]]:
    """The images (`paths` in `folder`) as rows of path, label and why, sorted; and notes.

    The label, printable and in Unicode form NFC, is empty and `why` the reason if the rule gives
    none, and for masks. A CSV gives rows for the images that it lists only, with their group.
    `is_test` marks test images. Rows have is_valid, and given_by (folders or csv), if the CSV or
    the folders give a split. Raises TableError if only test images get a label, or none, or the CSV
    does not fit the folder; StorageError if there is no such CSV.
    """
    masks = set()
    if rule.kind != "csv":
        masks = find_masks(paths, LocalStorage(folder), classes=rule.kind == "folder")
    paths = [path for path in paths if path not in masks]
    if rule.kind == "csv":
        rows, notes = LabelCsv(rule.value, rule.columns, folder, group_column).rows(paths)
    elif rule.kind == "folder":
        layout = Layout(paths)
        rows, notes = layout.rows(), layout.notes()
    else:
        rows = [{"path": path, "label": rule.label(path)} for path in paths]
        notes = Layout(paths, classes=False).split(rows)
    rows += [{"path": path, "label": "", "why": MASK} for path in masks]
    for row in rows:
        row["label"] = printable(nfc(row["label"]))
        row["why"] = row.get("why") or ("" if row["label"] else NO_LABEL)
        row.setdefault("is_test", False)
    if not any(row["label"] and not row["is_test"] for row in rows):
        name = format_names([posixpath.basename(path) for path in paths[:1]])
        seen = f"sees only the name of a file, {name}, and " if rule.kind == "regex" else ""
        raise TableError(f"--labels {rule}: {seen}matches no file, such as {format_names(paths)}")
    rows.sort(key=lambda row: row["path"])
    return rows, [*notes, *class_notes({row["label"] for row in rows if not row["is_test"]} - {""})]
