"""The rules that give a dataset's images their labels, and notes on unusual names of classes."""

import dataclasses
import itertools
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from visionflows.datasets.folder_layout import NO_LABEL, Layout, Row, nfc, split_role
from visionflows.datasets.format_names import first_three, format_name, format_names
from visionflows.datasets.label_csv import LabelCsv
from visionflows.datasets.masks import MASK, find_masks
from visionflows.errors import SettingsError, TableError
from visionflows.escaping import printable
from visionflows.images.formats import is_image_name
from visionflows.label_sets import SEPARATOR, class_names, join_labels
from visionflows.storage.local import LocalStorage

_CSV = re.compile(r"(.+)#([^#,]+),([^#,]+)", re.DOTALL)  # the last #: a name may have one too
_DASH = re.compile(r"(?<=[^\W\d])[-\u2010-\u2015]+(?=[^\W\d])")
_SEPARABLE = ("csv", "folder", "regex")  # kinds of which --label-sep parts the labels
_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")  # of what people do not see


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """Where labels come from."""

    kind: str  # folder, uppercase, regex or csv
    value: str = ""  # the class names, the regex's pattern, or the CSV's location
    columns: tuple[str, ...] = ()  # of the CSV: path and label, if they are named
    separator: str = ""  # between the labels of an image
    multi_label: bool | None = None  # None: as the source says

    def __str__(self) -> str:
        columns = f"#{','.join(self.columns)}" if self.columns else ""
        return f"{self.kind}:{self.value}{columns}" if self.value else self.kind

    @property
    def options(self) -> dict[str, str]:
        """The options of model.json that are not the default."""
        return {"label_sep": self.separator} if self.separator else {}

    def repeat(self, separator: str) -> "LabelRule":
        """The rule with the options of a training, where it has none of its own and takes them."""
        if self.separator or self.kind not in _SEPARABLE:
            return self
        return dataclasses.replace(self, separator=separator)

    def label(self, path: str) -> str:
        """The label in a file's name, folders aside; empty if there is none."""
        name = nfc(posixpath.basename(path))
        if self.kind == "uppercase":  # fastai's tutorial: is_cat(x) is x[0].isupper()
            return (self.value or "False,True").split(",")[name[0].isupper()]
        match = re.search(nfc(self.value), name)  # as fastai's RegexLabeller does by default
        return (match and match[1]) or ""


class LabelRows(NamedTuple):
    """The images as rows, notes on them, and whether an image may have several labels."""

    rows: list[Row]
    notes: list[str]
    is_multi: bool


def parse_label_rule(text: str, separator: str = "", multi_label: bool | None = None) -> LabelRule:
    """The rule for `folder`, `uppercase`, `regex:PATTERN` or `csv:LOCATION[#path,label]`.

    `uppercase:dog,cat` names its classes: for small first letters, and for capitals. A `separator`
    parts the labels of an image. Raises SettingsError for any other, for class names that are not
    two different ones, and for a pattern without exactly one group.
    """
    rule = _parse(text)
    if separator and rule.kind not in _SEPARABLE:
        kinds = ", ".join(_SEPARABLE)
        raise SettingsError(f"--label-sep {separator}: needs --labels of {kinds}, not {text}")
    return dataclasses.replace(rule, separator=separator, multi_label=multi_label)


def _parse(text: str) -> LabelRule:
    """The rule without its options. Raises SettingsError."""
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
) -> LabelRows:
    """The images (`paths` in `folder`) as rows of path, label and why, sorted.

    The label, printable and in Unicode form NFC, is empty and `why` the reason if the rule gives
    none, and for masks. Several labels are a text of `join_labels`, which may be empty. A CSV gives
    rows for the images that it lists only, with their group.
    `is_test` marks test images. Rows have is_valid, and given_by (folders or csv), if the CSV or
    the folders give a split. Raises TableError if only test images get a label, or none, or the CSV
    does not fit the folder; StorageError if there is no such CSV.
    """
    if rule.kind == "csv":
        rows, notes = LabelCsv(rule.value, rule.columns, folder, group_column).rows(paths)
    else:
        rows, notes = _rows_by_name(rule, folder, paths)
    is_multi = rule.multi_label
    if is_multi is None:
        is_multi = bool(rule.separator) or any("labels" in row for row in rows)
    for row in rows:
        _put_label(row, rule, is_multi)
    labels = {row["label"] for row in rows if not row["is_test"]}
    classes = {name for label in labels for name in class_names(label, is_multi)}
    if not classes:
        masks = {row["path"] for row in rows if row["why"] == MASK}
        paths = [path for path in paths if path not in masks]
        name = format_names([posixpath.basename(path) for path in paths[:1]])
        seen = f"sees only the name of a file, {name}, and " if rule.kind == "regex" else ""
        raise TableError(f"--labels {rule}: {seen}matches no file, such as {format_names(paths)}")
    rows.sort(key=lambda row: row["path"])
    return LabelRows(rows, [*notes, *_class_notes(classes, is_multi)], is_multi)


def _put_label(row: Row, rule: LabelRule, is_multi: bool) -> None:
    """Complete a row: its label, why it has none, and whether it is a test image."""
    listed = row.pop("labels", None)
    parts = row["label"].split(rule.separator) if rule.separator else [row["label"]]
    names = [part.strip() for part in parts] if rule.separator else parts
    names = sorted({printable(nfc(name)) for name in (names if listed is None else listed)} - {""})
    why = NO_LABEL
    if is_multi:
        if name := next((name for name in names if SEPARATOR in name), ""):
            raise TableError(
                f"--labels {rule}: the class {format_name(name)} has a {SEPARATOR}, which "
                "parts the labels of an image; rename it, or name another --label-sep"
            )
        why = NO_LABEL if listed is None else ""
    elif len(names) > 1:
        why = f"has {len(names)} labels, and --no-multi-label takes one: {format_names(names)}"
        names = []
    row["label"] = join_labels(names) if is_multi else "".join(names)
    row.setdefault("is_test", False)
    row.setdefault("test_why", "")
    row["why"] = "" if names else row.get("why") or (why and (row["test_why"] or why))


def _rows_by_name(rule: LabelRule, folder: Path, paths: list[str]) -> tuple[list[Row], list[str]]:
    """The rows of images whose folder or name gives the label, and of masks; and notes."""
    by_folder = rule.kind == "folder"
    masks = find_masks(paths, LocalStorage(folder), classes=by_folder)
    paths = [path for path in paths if path not in masks]
    if by_folder:
        layout = Layout(paths)
        rows, notes = layout.rows(), layout.notes()
    else:
        rows = [{"path": path, "label": rule.label(path)} for path in paths]
        notes = Layout(paths, classes=False).split(rows)
    return [*rows, *({"path": path, "label": "", "why": MASK} for path in masks)], notes


def _class_notes(classes: Iterable[str], is_multi: bool) -> list[str]:
    """Notes on unusual names of classes, which are printable; a line each."""
    classes, similar = sorted(classes), defaultdict(list)
    for name in classes:
        similar[_plain(name)].append(name)
    pairs = [" = ".join(map(format_name, names)) for names in similar.values() if len(names) > 1]
    notes = {
        "classes that differ only by case, spaces or the like": first_three(pairs),
        "labels like lists, each combination a class of its own": format_names(
            [] if is_multi else _lists(classes)
        ),
        "classes named like files": format_names([*filter(is_image_name, classes)]),
        "classes named like the parts of a split": format_names([*filter(split_role, classes)]),
    }
    return [f"{note}: {names}" for note, names in notes.items() if names]


def _plain(name: str) -> str:
    """A class name without what people do not see: of `jet_black` and `Jet black`, 1 and 1.0."""
    text = unicodedata.normalize("NFKC", _ESCAPE.sub("", name)).casefold()
    plain = "".join(_DASH.sub(" ", text.replace("_", " ")).split())
    try:
        return str(float(plain))
    except ValueError:
        return plain


def _lists(classes: list[str]) -> list[str]:
    """The class names that are lists: in brackets, or of parts that other names have too."""
    parts = {name: [part.strip() for part in re.split("[|;,]", name)] for name in classes}
    counts = Counter(itertools.chain.from_iterable({*each} - {""} for each in parts.values()))
    return [
        name
        for name, each in parts.items()
        if re.fullmatch(r"\[.*\]|\{.*\}", name, re.DOTALL)
        or (len(each) > 1 and any(counts[part] > 1 for part in each))
    ]
