"""Where the labels of a dataset come from: the names of its files, or a CSV.

    from visionflows.datasets.label_rules import label_rows, parse_label_rule
    label_rows(parse_label_rule("uppercase"), Path("photos"), ["Tom.jpg", "rex.jpg"]).rows

Labels and paths are text (names.encode_name), so that a CSV and a page can hold them.
"""

import dataclasses
import posixpath
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from visionflows.datasets.folder_layout import NO_LABEL, Layout, nfc, notes_on_classes
from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.label_csv import csv_rows
from visionflows.datasets.masks import MASK, masks
from visionflows.errors import SettingsError, TableError
from visionflows.storage.local import LocalStorage

# csv:PLACE#id,breed: the last # counts, as a name may have one too.
_NAMED = re.compile(r"(.+)#([^#,]+),([^#,]+)", re.DOTALL)


RuleKind = Literal["folder", "uppercase", "regex", "csv"]


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """Where an image's label comes from; `value` is the regex's pattern or the csv's place.

    `columns` are those of the csv that hold paths and labels, where they were named.
    """

    kind: RuleKind
    value: str = ""
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        columns = f"#{','.join(self.columns)}" if self.columns else ""
        return f"{self.kind}:{self.value}{columns}" if self.value else self.kind

    def label_of(self, path: str) -> str:
        """The label that a file's name tells, its folders aside; empty where it tells none."""
        name = nfc(posixpath.basename(path))
        if self.kind == "uppercase":  # fastai's tutorial: is_cat(x) is x[0].isupper()
            return str(name[0].isupper())
        match = re.search(nfc(self.value), name)  # as fastai's RegexLabeller does by default
        return (match and match[1]) or ""


class Labelled(NamedTuple):
    """Rows of path, label and why (it has none), perhaps is_valid; and notes, a line each."""

    rows: list[dict[str, Any]]
    notes: list[str]


def parse_label_rule(text: str) -> LabelRule:
    """The rule that `folder`, `uppercase`, `regex:<pattern>` or `csv:<place>[#path,label]` means.

    Raises SettingsError for any other, and for a pattern without exactly one group.
    """
    kind, colon, value = text.partition(":")
    if kind in ("folder", "uppercase") and not colon:
        return LabelRule(cast(RuleKind, kind))
    if kind == "csv" and value:
        named = _NAMED.fullmatch(value)
        return (
            LabelRule("csv", named[1], (named[2], named[3])) if named else LabelRule("csv", value)
        )
    if kind != "regex":
        raise SettingsError(
            f"--labels {text}: no such rule; give folder, uppercase, "
            "regex:<pattern with one group> or csv:<place>, with #PATH,LABEL to name its columns"
        )
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise SettingsError(f"--labels {text}: not a regular expression: {error}") from error
    if groups != 1:
        raise SettingsError(
            f"--labels {text}: has {groups} groups; put one (…) around the label, and write "
            "other groups as (?:…)"
        )
    return LabelRule("regex", value)


def label_rows(rule: LabelRule, folder: Path, paths: list[str]) -> Labelled:
    """The images (`paths`) that a folder holds with their labels, sorted by path.

    The label is empty where the rule gives none, and for what is a test's by the folders or the
    CSV. From a CSV come only the rows it names. They have is_valid where it, or the folders, give
    a split. A mask beside the picture that it is of has no label (data.masks), but in a CSV. Labels
    are NFC. Raises TableError where no image gets a label or the CSV does not fit the folder, and
    PlaceError where there is no such CSV.
    """
    beside = set() if rule.kind == "csv" else masks(paths, LocalStorage(folder))
    paths = [path for path in paths if path not in beside]
    if rule.kind == "csv":
        rows, notes = csv_rows(rule.value, rule.columns, folder, paths)
    elif rule.kind == "folder":
        layout = Layout(paths)
        rows, notes = layout.rows(), layout.notes()
    else:
        rows = [{"path": path, "label": rule.label_of(path)} for path in paths]
        notes = Layout(paths, classes=False).split(rows)
    if not any(row["label"] for row in rows):
        raise TableError(
            f"--labels {rule}: {_sees(rule, paths)}matches no file, such as {format_names(paths)}"
        )
    for row in rows:
        row["label"] = nfc(row["label"])
        row["why"] = row.get("why") or ("" if row["label"] else NO_LABEL)
    rows += [{"path": path, "label": "", "why": MASK} for path in beside]
    rows.sort(key=lambda row: row["path"])
    return Labelled(rows, [*notes, *notes_on_classes({row["label"] for row in rows} - {""})])


def _sees(rule: LabelRule, paths: list[str]) -> str:
    """What a rule that matches nothing looked at."""
    if rule.kind != "regex":
        return ""
    return f"sees only the name of a file, {format_name(posixpath.basename(paths[0]))}, and "
