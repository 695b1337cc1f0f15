"""The labels that a rule gives a dataset's images, and notes on unusual names of classes."""

import itertools
import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from visionflows.datasets.folder_layout import NO_LABEL, Layout, Row, nfc, split_role
from visionflows.datasets.format_names import first_three, format_name, format_names
from visionflows.datasets.label_coco import read_coco
from visionflows.datasets.label_csv import LabelCsv
from visionflows.datasets.label_file import LabelFile
from visionflows.datasets.label_keywords import keyword_rows
from visionflows.datasets.label_rules import LabelRule
from visionflows.datasets.label_xml import read_cvat, read_voc
from visionflows.datasets.listed_images import ListedImages, unused_note
from visionflows.datasets.masks import MASK, find_masks
from visionflows.datasets.path_matching import PathMatcher
from visionflows.errors import TableError
from visionflows.escaping import printable
from visionflows.images.formats import is_image_name
from visionflows.label_sets import SEPARATOR, class_names, join_labels
from visionflows.storage.local import LocalStorage

_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")  # of what people do not see
_DASH = re.compile(r"(?<=[^\W\d])[-\u2010-\u2015]+(?=[^\W\d])")
_WANTED = {  # what a label file is, for an error
    "csv": "csv: takes one with path,label",
    "coco": "coco: takes a JSON file of COCO",
    "voc": "voc: takes a folder of XML files",
    "cvat": "cvat: takes an XML file of CVAT for images",
}


class LabelRows(NamedTuple):
    """The images as rows, notes on them, and whether an image may have several labels."""

    rows: list[Row]
    notes: list[str]
    is_multi: bool


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
    if rule.kind == "keywords":
        rows = keyword_rows(folder, paths, rule.value)
        notes = Layout(paths, classes=False).split(rows)
    elif rule.kind in ("folder", "uppercase", "regex"):
        rows, notes = _rows_by_name(rule, folder, paths)
    else:
        rows, notes = _rows_of_file(rule, folder, paths, group_column)
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


def _rows_of_file(
    rule: LabelRule, folder: Path, paths: list[str], group_column: str
) -> tuple[list[Row], list[str]]:
    """The rows of images that a label file lists; and notes. Raises TableError, StorageError."""
    find = LabelFile.find_folder if rule.kind == "voc" else LabelFile.find
    file = find(rule.value, folder, _WANTED[rule.kind])
    layout = Layout(paths, classes=False)
    matcher = PathMatcher(paths, os.path.abspath(folder), file.folder)
    if rule.kind == "csv":
        return LabelCsv(rule, file, group_column).rows(matcher, layout)
    declared: list[str] = []
    if rule.kind == "voc":
        images = read_voc(file, matcher)
    elif rule.kind == "cvat":
        images, declared = read_cvat(file)
    else:
        images, declared = read_coco(file)
    rows, notes = ListedImages(file, rule, images).rows(matcher, layout)
    return rows, [*notes, *unused_note(declared, images), *layout.split(rows, is_listed=True)]


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
