"""What the folders of a dataset mean: its classes, and the split that it may bring along.

    from visionflows.datasets.folder_layout import Layout
    Layout(["train/cat/1.jpg", "val/cat/2.jpg", "test/3.jpg"]).rows()

A folder named as one to train on, beside one to validate on, is the split as given; beside one
that is only named as a test's, it is all there is to train on. What is named as a test's is left
out either way, and so is what lies beside such folders.
"""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from visionflows.datasets.format_names import format_name, format_names
from visionflows.errors import TableError
from visionflows.images.formats import is_image_name

TRAIN, VALID, TEST = "train", "validation", "test"
# A word of a folder's name that makes it a part of a split, and words that add nothing to it.
_WORDS = {
    TRAIN: re.compile("train(ing)?(set|data|images)?"),
    VALID: re.compile("(val|valid|validation|dev)(set|data|images)?"),
    TEST: re.compile("test(ing|set|data|images)?[0-9]*"),
}
_EMPTY_WORDS = {"set", "data", "dataset", "image", "images", "img", "imgs", "photos", "pictures"}
NO_LABEL = "the label rule gives it no label"
BESIDE = "beside the folders of the split, in none of them"


class Spot(NamedTuple):
    """What a folder is: its side of a split if it has one, its class, or why it has none."""

    role: str
    label: str
    above: str  # the folders that its class lies in, without those that make the split
    why: str = ""


class Layout:
    """The folders of a dataset's images; `paths` are relative to it.

    Without `classes` they are no classes: something else labels, and the parts of a split need
    hold no folders.
    """

    def __init__(self, paths: list[str], classes: bool = True):
        self.paths = paths
        folders = sorted({posixpath.dirname(path) for path in paths})
        self.splits, self.shallow = _splits(folders, classes)
        self.spots = {folder: self._spot(folder) for folder in folders}

    def rows(self) -> list[dict[str, Any]]:
        """A row of path, label and why it has none for each image; is_valid if a split is given.

        Raises TableError where the folders are the parts of a split and hold no classes.
        """
        spots = [self.spots[posixpath.dirname(path)] for path in self.paths]
        rows: list[dict[str, Any]] = [
            {"path": path, "label": spot.label, "why": spot.why}
            for path, spot in zip(self.paths, spots, strict=True)
        ]
        classes = {row["label"] for row in rows} - {""}
        if classes and all(_is_part(name) for name in classes):
            raise TableError(
                f"--labels folder: no classes, only parts of a split ({format_names(sorted(classes))}); "
                "give --labels regex:<pattern with one group> or csv:<place>"
            )
        if VALID in {spot.role for spot in spots}:
            for row, spot in zip(rows, spots, strict=True):
                row["is_valid"] = spot.role == VALID
        return rows

    def split(self, rows: list[dict[str, Any]], named: bool = False) -> list[str]:
        """Put the folders' split, if the labelled rows have one, on rows of path and label; notes.

        What lies in a test's folder loses its label, and so does what lies beside the folders of
        the split, unless somebody has `named` each image.
        """
        spots = [self.spots[posixpath.dirname(row["path"])] for row in rows]
        roles = {spot.role for spot, row in zip(spots, rows, strict=True) if row["label"]}
        if not _is_split(roles):
            return []
        out = {TEST} if named else {TEST, ""}
        divide(rows, [(spot.role, spot.why if spot.role in out else "") for spot in spots])
        return self._split_note() if VALID in roles else []

    def notes(self) -> list[str]:
        """What is odd about the folders, a line each."""
        above, forms = defaultdict(set), defaultdict(set)
        depths: dict[int, str] = {}
        for folder, spot in self.spots.items():
            if spot.label:
                above[nfc(spot.label)].add(spot.above or ".")
                forms[nfc(spot.label)].add(spot.label)
                depths.setdefault(spot.above.count("/") + bool(spot.above), folder)
        lines = self._split_note()
        if len(depths) > 1:
            lines.append(
                f"folders of pictures at different depths: {format_names([*depths.values()])}"
            )
        several = {name: sorted(found) for name, found in above.items() if len(found) > 1}
        if several:
            remarks = [format_names(found) for found in several.values()]
            lines.append(
                f"one class from folders in several places: {format_names([*several], remarks)}"
            )
        if twofold := [name for name, found in forms.items() if len(found) > 1]:
            lines.append(
                f"one class, though written in several Unicode forms: {format_names(twofold)}"
            )
        return lines

    def _split_note(self) -> list[str]:
        sides: dict[str, list[str]] = defaultdict(list)
        for folder, roles in self.splits.items():
            for name, role in roles.items():
                sides[role].append(posixpath.join(folder, name))
        if not sides[VALID]:
            return []
        train, valid = format_names(sides[TRAIN]), format_names(sides[VALID])
        return [f"the split is the folders' own: {train} to train on, {valid} to validate on"]

    def _spot(self, folder: str) -> Spot:
        parts = folder.split("/") if folder else []
        for at in range(len(parts) + 1):
            head = "/".join(parts[:at])
            if head in self.splits:
                return self._spot_in(head, parts[at:])
        if self.splits or not parts:
            return Spot("", "", "", BESIDE if self.splits else NO_LABEL)
        return _class_of("", parts)

    def _spot_in(self, head: str, below: list[str]) -> Spot:
        """The spot of a folder `below` (as its parts) the folder of a split."""
        role = self.splits[head].get(below[0], "") if below else ""
        if role not in (TRAIN, VALID):
            part = format_name(posixpath.join(head, below[0])) if below else ""
            why = f"in {part}, a test's folder" if role == TEST else BESIDE
            return Spot(role, "", "", why)
        parts = [*head.split("/"), *below[1:]] if head else below[1:]
        if below[1:] or head in self.shallow:
            return _class_of(role, parts)
        return Spot(role, "", "", f"in no class folder of {format_name(below[0])}")


def _class_of(role: str, parts: list[str]) -> Spot:
    return Spot(role, parts[-1], "/".join(parts[:-1]))


def divide(rows: list[dict[str, Any]], sides: list[tuple[str, str]]) -> None:
    """Put a split on rows: the role of each, and why it is to have no label, if it is to have none.

    Where none is to validate on, the rows get no is_valid: they are split by lot.
    """
    given = VALID in {role for role, _ in sides}
    for row, (role, why) in zip(rows, sides, strict=True):
        if why:
            row["label"], row["why"] = "", why
        if given:
            row["is_valid"] = role == VALID


def _splits(folders: list[str], classes: bool) -> tuple[dict[str, dict[str, str]], set[str]]:
    """The folders that hold a split, with the role of each folder in them; which are classes.

    A split is above the folders of its classes, or, several times over, inside each of them;
    anywhere, where folders are no `classes`.
    """
    below: dict[str, dict[str, bool]] = defaultdict(dict)  # a folder's own: does it hold others?
    for folder in folders:
        parts = folder.split("/") if folder else []
        for at, child in enumerate(parts):
            children = below["/".join(parts[:at])]
            children[child] = children.get(child, False) or at + 1 < len(parts)
    deep: dict[str, dict[str, str]] = {}
    shallow: dict[str, dict[str, str]] = {}
    for folder, children in below.items():
        if roles := _roles([*children]):
            holds = any(children[child] for child, role in roles.items() if role == TRAIN)
            (deep if holds else shallow)[folder] = roles
    if classes and (len(shallow) < 2 or "" in shallow):
        shallow = {}
    return {**deep, **shallow}, set(shallow) if classes else set()


def _roles(names: list[str]) -> dict[str, str]:
    """What each of some folders is in the split that they make together; nothing if they do not.

    They do as `train` and `val`, `train_images` and `test1` or `seg_train` and `seg_test`, but
    not as `train station` and `test tube`.
    """
    alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        if found := _role(name):
            alike[found[1:]][name] = found[0]
    for roles in alike.values():
        if _is_split({*roles.values()}):
            return roles
    return {}


def _is_split(roles: set[str]) -> bool:
    return TRAIN in roles and bool({VALID, TEST} & roles)


def _role(name: str) -> tuple[str, ...]:
    """What a word of a folder's name makes it in a split, then its other words; or nothing."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word not in _EMPTY_WORDS]
    for role, pattern in _WORDS.items():
        for word in filter(pattern.fullmatch, words):
            return role, *(other for other in words if other != word)
    return (TEST,) if name.casefold().startswith("test") else ()


def role_of(word: str) -> str:
    """What a word such as `Train` or `validation` makes what it stands at; empty for any other."""
    found = (role for role, pattern in _WORDS.items() if pattern.fullmatch(word.casefold()))
    return next(found, "")


def _is_part(name: str) -> bool:
    """Whether a whole name is that of a split's part."""
    return bool(role_of(name))


def notes_on_classes(classes: Iterable[str]) -> list[str]:
    """What is odd about the names of classes, a line each."""
    classes, alike = sorted(classes), defaultdict(list)
    for name in classes:
        alike["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    lines = []
    if pairs := [" = ".join(map(format_name, names)) for names in alike.values() if len(names) > 1]:
        more = ", …" if len(pairs) > 3 else ""
        lines.append(f"classes that differ only by case or spaces: {', '.join(pairs[:3])}{more}")
    if files := [name for name in classes if is_image_name(name)]:
        lines.append(f"classes named like files: {format_names(files)}")
    if parts := [name for name in classes if _is_part(name)]:
        lines.append(f"classes named like the parts of a split: {format_names(parts)}")
    return lines


def nfc(name: str) -> str:
    """A name in the Unicode form that most systems write: a Mac's é is two signs, others' one."""
    return unicodedata.normalize("NFC", name)
