"""What the folders of a dataset mean: its classes, and the split that they may give."""

import functools
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from visionflows.datasets.format_names import format_name, format_names
from visionflows.errors import TableError

TRAIN, VALID, TEST = "train", "validation", "test"
EVALUATION = "evaluation"  # a name of the validation part; of the test part if there is another
UNUSED = "unused"  # a part without labels
_ROLES = {  # COCO and others write a year behind
    TRAIN: re.compile("train(ing|val)?(set|data|images)?[0-9]*"),
    VALID: re.compile("(val|valid|validate|validation|dev)(set|data|images)?[0-9]*"),
    TEST: re.compile("test(ing|set|data|images)?[0-9]*"),
    EVALUATION: re.compile("(eval|evaluate|evaluation|holdout|heldout)(set|data|images)?[0-9]*"),
    UNUSED: re.compile("(unlabell?ed|unsup|unsupervised|unannotated|pred|predict)[0-9]*"),
}
_STOP_WORDS = {"set", "data", "dataset", "image", "images", "img", "imgs", "photos", "pictures"}
NO_LABEL = "the label rule gives it no label"
OUTSIDE_SPLIT = "beside the folders of the split, in none of them"
# Of an image: path, label, why it has none; labels, of a source that gives each image a list;
# is_test and test_why of a test image; is_valid and given_by of a split.
Row = dict[str, Any]
_Splits = dict[str, dict[str, str]]  # by the folder that holds it, the role of each folder in it


class Folder(NamedTuple):
    """A folder's role in the split if it has one, and its class or why it has none."""

    role: str
    label: str
    parent: str  # of its class, without the folders that make the split
    why: str = ""


class Layout:
    """The folders of a dataset's images, whose `paths` are relative to it.

    A training folder beside a validation folder gives the split; beside a test folder only, it is
    all there is to train on. With `classes=False` something else gives labels, and the folders of a
    split need hold none.
    """

    def __init__(self, paths: list[str], classes: bool = True):
        self.paths = paths
        names = sorted({posixpath.dirname(path) for path in paths})
        self.splits, self.class_splits = _find_splits(names, classes)
        self.folders = {name: self._folder(name) for name in names}

    def rows(self) -> list[Row]:
        """A row per image: see `Row`.

        Raises TableError if the folders are the parts of a split and hold no classes.
        """
        folders = [self.folders[posixpath.dirname(path)] for path in self.paths]
        rows: list[Row] = [
            {"path": path, "label": folder.label, "why": folder.why}
            for path, folder in zip(self.paths, folders, strict=True)
        ]
        labels = zip(rows, folders, strict=True)
        classes = sorted({row["label"] for row, folder in labels if folder.role != TEST} - {""})
        named = [name for name in classes if _role(name) or _role_and_words(name)[1:]]
        if parts := [*_roles(named)] or (classes if all(map(split_role, classes)) else []):
            raise TableError(
                f"--labels folder: no classes, only parts of a split ({format_names(parts)}); "
                "give --labels regex:<pattern with one group> or csv:<path or URI>"
            )
        apply_split(rows, [(each.role, each.why) for each in folders])
        return rows

    def split(self, rows: list[Row], is_listed: bool = False) -> list[str]:
        """Put the folders' split, if the labelled rows have one, on rows of path and label; notes.

        Without `is_listed` images beside the split lose their label.
        """
        folders = [self.folders[posixpath.dirname(row["path"])] for row in rows]
        roles = {folder.role for folder, row in zip(folders, rows, strict=True) if row["label"]}
        if not _is_split(roles):
            return []
        explained = {TEST} if is_listed else {TEST, ""}
        sides = [(each.role, each.why if each.role in explained else "") for each in folders]
        apply_split(rows, sides)
        return self._split_notes() if VALID in roles else []

    def notes(self) -> list[str]:
        """Notes on the split and on unusual folders, a line each."""
        parents, spellings = defaultdict(set), defaultdict(set)
        depths: dict[int, str] = {}
        for name, folder in self.folders.items():
            if folder.label and folder.role != TEST:
                parents[nfc(folder.label)].add(folder.parent or ".")
                spellings[nfc(folder.label)].add(folder.label)
                depths.setdefault(folder.parent.count("/") + bool(folder.parent), name)
        notes = self._split_notes()
        if len(depths) > 1:
            examples = format_names([*depths.values()])
            notes.append(f"folders of pictures at different depths: {examples}")
        scattered = {label: sorted(found) for label, found in parents.items() if len(found) > 1}
        if scattered:
            remarks = [format_names(found) for found in scattered.values()]
            notes.append(f"one class from several folders: {format_names([*scattered], remarks)}")
        if labels := [label for label, found in spellings.items() if len(found) > 1]:
            notes.append(f"one class written in several Unicode forms: {format_names(labels)}")
        return notes

    def _split_notes(self) -> list[str]:
        sides: dict[str, list[str]] = defaultdict(list)
        for folder, roles in self.splits.items():
            for name, role in roles.items():
                sides[role].append(posixpath.join(folder, name))
        if not sides[VALID]:
            return []
        train, valid = format_names(sides[TRAIN]), format_names(sides[VALID])
        return [f"the split is that of the folders: {train} to train on, {valid} to validate on"]

    def _folder(self, name: str) -> Folder:
        parts = name.split("/") if name else []
        for depth in range(len(parts) + 1):
            head = "/".join(parts[:depth])
            if head in self.splits:
                return self._folder_in_split(head, parts[depth:])
        if self.splits or not parts:
            return Folder("", "", "", OUTSIDE_SPLIT if self.splits else NO_LABEL)
        return Folder("", parts[-1], "/".join(parts[:-1]))

    def _folder_in_split(self, head: str, below: list[str]) -> Folder:
        """The folder at the parts `below` a folder `head` that holds a split."""
        role = self.splits[head].get(below[0], "") if below else ""
        if role in ("", UNUSED):
            return Folder("", "", "", OUTSIDE_SPLIT)
        test_folder = format_name(posixpath.join(head, below[0]))
        why = f"in the test folder {test_folder}" if role == TEST else ""
        if below[1:] or head in self.class_splits:
            parent, label = posixpath.split(posixpath.join(head, *below[1:]))
            return Folder(role, label, parent, why)
        return Folder(role, "", "", why or f"in no class folder of {format_name(below[0])}")


def apply_split(
    rows: list[Row], sides: list[tuple[str, str]], given_by: str = "folders", is_given: bool = False
) -> None:
    """Put each row's role on it, and the reason why it is not used, of `sides`.

    Test images keep their label. Rows have is_valid and given_by if the split is given, or a role
    is that of validation.
    """
    is_given = is_given or VALID in {role for role, _ in sides}
    for row, (role, why) in zip(rows, sides, strict=True):
        if role == TEST:
            row |= {"is_test": True, "test_why": why}
        elif why:
            row.pop("labels", None)
            row["label"], row["why"] = "", why
        if is_given:
            row |= {"is_valid": role == VALID, "given_by": given_by}


def _find_splits(names: list[str], classes: bool) -> tuple[_Splits, set[str]]:
    """The folders that hold a split, and which of them are classes.

    A split is above the class folders or inside each of them; without `classes` anywhere.
    """
    children: dict[str, dict[str, None]] = defaultdict(dict)  # a dict keeps the order
    for name in names:
        parts = name.split("/") if name else []
        for depth, child in enumerate(parts):
            children["/".join(parts[:depth])][child] = None
    above: _Splits = {}
    inside: _Splits = {}
    unclear = []
    for folder, siblings in children.items():
        roles = _roles([*siblings])
        named = roles or {name: _role(name) for name in siblings}
        trains = [name for name, role in named.items() if role == TRAIN]
        has_folders = any(posixpath.join(folder, name) in children for name in trains)
        if roles:
            (above if has_folders else inside)[folder] = roles
        elif has_folders or _share_classes(folder, [*filter(named.get, named)], children):
            unclear.append(folder)
    if classes and not above:
        for folder in unclear:
            _check_siblings(folder, [*children[folder]])
    if classes and (len(inside) < 2 or "" in inside):
        inside = {}
    return above | inside, set(inside) if classes else set()


def _share_classes(folder: str, parts: list[str], children: dict[str, dict[str, None]]) -> bool:
    """Whether a folder named like a part of a split holds folders of the same names as another."""
    found = {name: {*children.get(posixpath.join(folder, name), ())} for name in children[folder]}
    return any(found[part] & found[name] for part in parts for name in found if name != part)


def _check_siblings(folder: str, names: list[str]) -> None:
    """Raise TableError for folders beside one named like a part that may be parts, or classes.

    Both hold folders or images, so neither can be told from the other.
    """
    roles = {name: _role(name) for name in names}
    role = TRAIN if TRAIN in roles.values() else next(filter(None, roles.values()))
    parts = [name for name in names if roles[name] == role]
    others = [name for name in names if _role_and_words(name)[:1] != (role,)]
    if others:
        raise TableError(
            f"--labels folder: {format_names([posixpath.join(folder, name) for name in others])} "
            f"beside {format_names(parts)} may be a part of a split or a class; if a part, rename "
            f"it to {'train2' if role == TRAIN else 'train'}, val, test or unlabeled; else move it "
            f"out, or rename the folder {format_names(parts)}"
        )


def _roles(names: list[str]) -> dict[str, str]:
    """The role of each folder in the split that sibling folders make; empty if they make none.

    `train` and `val`, `train_images` and `test1`, `seg_train` and `seg_test` do; `train station`
    and `test tube` do not.
    """
    by_words: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        if found := _role_and_words(name):
            by_words[found[1:]][name] = found[0]
    for roles in by_words.values():
        roles = dict(zip(roles, _resolve([*roles.values()]), strict=True))
        if _is_split({*roles.values()}):
            return roles
    return {}


def _is_split(roles: set[str]) -> bool:
    return TRAIN in roles and bool({VALID, TEST, UNUSED} & roles)


def _role_and_words(name: str) -> tuple[str, ...]:
    """The role that a word of a folder's name gives it, then its other words; empty for none."""
    words = re.split(r"[\W_]+", re.sub(r"\bh[eo]ld[\W_]+out\b", "holdout", name.casefold()))
    words = [word for word in words if word not in _STOP_WORDS and not word.isdecimal()]
    for role, pattern in _ROLES.items():
        for word in filter(pattern.fullmatch, words):
            return role, *(other for other in words if other != word)
    return (TEST,) if name.casefold().startswith("test") else ()


def split_role(word: str) -> str:
    """The role in a split that a word such as `Train` or `validation` names; empty for none."""
    return split_roles([word])[0]


def split_roles(words: Iterable[str]) -> list[str]:
    """The roles that the words of one split name; empty for those that name none."""
    found = _resolve([_role(word) for word in words])
    return ["" if role == UNUSED else role for role in found]


@functools.lru_cache(4096)
def _role(word: str) -> str:
    roles = (role for role, pattern in _ROLES.items() if pattern.fullmatch(word.casefold()))
    return next(roles, "")


def _resolve(roles: list[str]) -> list[str]:
    """The roles of a split, in which the evaluation part is for validation or for tests."""
    evaluated = TEST if VALID in roles else VALID
    return [evaluated if role == EVALUATION else role for role in roles]


def nfc(name: str) -> str:
    """A name in Unicode form NFC; macOS writes é as two characters."""
    return unicodedata.normalize("NFC", name)
