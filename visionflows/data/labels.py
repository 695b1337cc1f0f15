"""Where the labels of a dataset come from: the names of its files, or a CSV.

    from visionflows.data.labels import label_rows, parse_label_rule
    label_rows(parse_label_rule("uppercase"), Path("photos"), ["Tom.jpg", "rex.jpg"])

Labels and paths are text (storage.text_of), so that a CSV and a page can hold them.
"""

import csv
import dataclasses
import io
import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, cast

from visionflows.errors import PlaceError, SettingsError, TableError
from visionflows.places import file_in, is_local
from visionflows.places.local import LocalPlace

RuleKind = Literal["folder", "uppercase", "regex", "csv"]
_BOOLS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """Where an image's label comes from; `value` is the regex's pattern or the csv's place."""

    kind: RuleKind
    value: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind

    def label_of(self, path: str) -> str:
        """The label that a path below the dataset's folder tells; empty where it tells none."""
        folder, name = posixpath.split(path)
        if self.kind == "folder":
            return posixpath.basename(folder)
        if self.kind == "uppercase":  # fastai's tutorial: is_cat(x) is x[0].isupper()
            return str(name[0].isupper())
        match = re.search(self.value, name)  # as fastai's RegexLabeller does by default
        return (match and match[1]) or ""


class LabelRow(TypedDict):
    """What a rule says of an image: its path, its label, and its side where a CSV tells it."""

    path: str
    label: str
    is_valid: NotRequired[bool]


def parse_label_rule(text: str) -> LabelRule:
    """The rule that `folder`, `uppercase`, `regex:<pattern>` or `csv:<place>` means.

    Raises SettingsError for any other, and for a pattern without exactly one group.
    """
    kind, colon, value = text.partition(":")
    if kind in ("folder", "uppercase") and not colon:
        return LabelRule(cast(RuleKind, kind))
    if kind == "csv" and value:
        return LabelRule("csv", value)
    if kind != "regex":
        raise SettingsError(
            f"--labels {text}: no such rule; give folder, uppercase, "
            "regex:<pattern with one group> or csv:<place>"
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


def label_rows(rule: LabelRule, folder: Path, paths: list[str]) -> list[LabelRow]:
    """Rows of path and label, sorted by path, of the images (`paths`) that a folder holds.

    The label is empty where the rule gives none. From a CSV come only the rows it names, with
    is_valid if it has that column. Raises TableError where no image gets a label or the CSV does
    not fit the folder, and PlaceError where there is no such CSV.
    """
    if rule.kind == "csv":
        return _csv_rows(rule, folder, paths)
    rows: list[LabelRow] = [{"path": path, "label": rule.label_of(path)} for path in paths]
    if not any(row["label"] for row in rows):
        raise TableError(f"--labels {rule}: matches no file, such as {some(paths)}")
    return rows


def _csv_rows(rule: LabelRule, folder: Path, paths: list[str]) -> list[LabelRow]:
    text, inside = _read_csv(rule, folder)
    rows: dict[str, LabelRow] = {}
    known, missing = set(paths), []
    for line in _csv_lines(rule, text):
        spots = [posixpath.normpath(posixpath.join(start, line["path"])) for start in ("", inside)]
        path = next((spot for spot in spots if spot in known), None)
        if path is None:
            missing.append(line["path"])
            continue
        row: LabelRow = {"path": path, "label": line["label"]}
        if "is_valid" in line:
            row["is_valid"] = _bool(line["is_valid"], rule, path)
        if rows.setdefault(path, row) != row:
            raise TableError(f"{rule.value}: names {shown(path)} twice, with different values")
    if missing:
        raise TableError(
            f"{rule.value}: {len(missing)} of its paths name no image in {folder}: {some(missing)}"
        )
    if not any(row["label"] for row in rows.values()):
        raise TableError(f"{rule.value}: has no row with a label")
    return [rows[path] for path in sorted(rows)]


def _csv_lines(rule: LabelRule, text: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
    try:
        lines = list(reader)
    except csv.Error as error:
        raise TableError(f"{rule.value}: not a CSV ({error})") from error
    columns = reader.fieldnames or []
    lacking = [column for column in ("path", "label") if column not in columns]
    if lacking:
        raise TableError(
            f"{rule.value}: lacks the column {' and '.join(lacking)}; "
            f"its first line must name path and label, and says {some(columns) or 'nothing'}"
        )
    return lines


def _read_csv(rule: LabelRule, folder: Path) -> tuple[str, str]:
    """The csv's text, and its own folder relative to the dataset's where it lies inside.

    It is looked for as named, and then, for one that came in the archive, inside the dataset.
    """
    wheres = [rule.value]
    if is_local(rule.value):
        wheres.append(os.path.join(folder, rule.value))
    for where in wheres:
        source, name = file_in(where)
        if source.exists(name):
            break
    else:
        raise PlaceError(f"{rule.value}: no such file; --labels csv: takes one with path,label")
    try:
        text = source.read(name).decode("utf-8-sig")
    except OSError as error:
        raise PlaceError(f"{rule.value}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TableError(
            f"{rule.value}: not UTF-8 text ({error}); save it as a UTF-8 CSV"
        ) from error
    inside = os.path.relpath(source.root, folder) if isinstance(source, LocalPlace) else ""
    return text, "" if inside.startswith("..") else inside


def _bool(text: str, rule: LabelRule, path: str) -> bool:
    try:
        return _BOOLS[text.strip().lower()]
    except KeyError:
        raise TableError(
            f"{rule.value}: is_valid of {shown(path)} is {text!r}; write True or False"
        ) from None


def some(names: Sequence[str], remarks: list[str] | None = None) -> str:
    """Up to three names, a remark after each if there are any, in one line."""
    first = [shown(name) for name in names[:3]]
    if remarks:
        first = [f"{name} ({remark})" for name, remark in zip(first, remarks, strict=False)]
    return ", ".join(first) + (", …" if len(names) > 3 else "")


def shown(name: str) -> str:
    """A name as it is, or quoted where it is empty or would break the line."""
    return name if name and name.isprintable() else repr(name)
