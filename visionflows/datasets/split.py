"""Choose the validation images, at random or as given; duplicates stay on one side."""

import logging

import pandas as pd

from visionflows.datasets.format_names import first_three, format_name, format_names
from visionflows.datasets.label_rules import LabelRule
from visionflows.errors import TableError
from visionflows.hashing import sha256_of
from visionflows.images.near_duplicates import group_duplicates, signature_array

log = logging.getLogger("visionflows.table")


def group_contents(usable: pd.DataFrame, ids: pd.Series) -> list[list[str]]:
    """The sorted sha256 of the different contents with the same number, two or more."""
    groups = usable.drop_duplicates("sha256").groupby(ids).sha256
    return [sorted(group) for _, group in groups if len(group) > 1]


def near_duplicate_ids(usable: pd.DataFrame) -> pd.Series:
    """A number for each row: the same for copies and near-duplicates, which count as one image."""
    contents = usable.drop_duplicates("sha256")
    ids = group_duplicates(signature_array(contents.signature))
    return usable.sha256.map(dict(zip(contents.sha256, ids.tolist(), strict=True)))


def same_side_ids(usable: pd.DataFrame) -> pd.Series:
    """A number for each row: the same for images that every drawn split keeps on one side.

    They are copies, near-duplicates, or of the same group, or linked by such images.
    """
    ids = near_duplicate_ids(usable)
    while True:
        of_groups = ids.groupby(usable.group).transform("min").where(usable.group != "", ids)
        merged = of_groups.groupby(ids).transform("min")
        if merged.equals(ids):
            return ids
        ids = merged


def same_side_keys(usable: pd.DataFrame) -> list[str]:
    """The smallest sha256 of the images that stay on one side with each row."""
    return list(usable.sha256.groupby(same_side_ids(usable)).transform("min"))


def split_randomly(
    usable: pd.DataFrame, valid_pct: float, seed: int, duplicates: list[list[str]]
) -> set[str]:
    """The sha256 of the images to validate on: a share of each class, at least one.

    The order of sha256(seed, content) decides, so a new image moves few others. Bytes under two
    labels stay in training, and so does the only image of a class. Near-duplicates go where the
    smallest sha256 goes; groups over half of a class's validation images are trained on. Raises
    TableError.
    """
    labels = usable.groupby("sha256").label.nunique()
    unambiguous = set(labels.index[labels == 1])
    valid: set[str] = set()
    single: list[str] = []
    too_few: list[str] = []
    for label, contents in usable.groupby("label").sha256.unique().items():
        order = sorted(unambiguous & {*contents}, key=lambda sha256: random_key(seed, sha256))
        if not order or len(contents) < 2:
            (single if order else too_few).append(str(label))
            continue
        count = max(round(valid_pct * len(contents)), 1)
        valid.update(order[: min(count, len(contents) - 1)])
    _check_split(valid, single, too_few)
    return _keep_together(usable, valid, [set(group) for group in duplicates], unambiguous)


def split_as_given(usable: pd.DataFrame, rule: LabelRule) -> set[str]:
    """The sha256 of the images given for validation, and of their copies. Raises TableError."""
    given = usable.is_valid.astype(bool)
    valid = set(usable.sha256[given])
    is_valid = usable.sha256.isin(valid)
    if is_valid.all() or not is_valid.any():
        side = "train" if is_valid.all() else "validate"
        raise TableError(f"--labels {rule}: its split leaves no usable image to {side} on")
    if copies := usable.path[is_valid & ~given].tolist():
        log.warning(
            "moved to validation, as copies of images there: %d, %s",
            *(len(copies), format_names(copies)),
        )
    return valid


def near_duplicate_notes(
    usable: pd.DataFrame, valid: set[str], duplicates: list[list[str]]
) -> list[str]:
    """Notes on near-duplicates: all, those on both sides, those under different labels."""
    first_rows = usable.drop_duplicates("sha256").set_index("sha256")
    labels = usable.groupby("sha256").label.agg(set)
    across = [group for group in duplicates if _is_split(group, valid)]
    differing = [group for group in duplicates if len(set.union(*labels[group])) > 1]
    images = int(usable.sha256.isin({sha256 for group in duplicates for sha256 in group}).sum())
    lines = {
        f"near-duplicates: {images} images in {_count(duplicates)}": duplicates,
        f"near-duplicates in training and in validation: {_count(across)}": across,
        f"near-duplicates under different labels: {_count(differing)}": differing,
    }
    return [
        f"{line}, {format_groups([first_rows.loc[group] for group in groups], ' ≈ ')}"
        for line, groups in lines.items()
        if groups
    ]


def format_groups(groups: list[pd.DataFrame], sign: str) -> str:
    """Up to three groups of rows, and up to three images of each with their labels."""
    examples = [
        sign.join(
            f"{format_name(str(row.path))} ({format_name(str(row.label))})"
            for row in group[:3].itertuples()
        )
        for group in groups[:4]
    ]
    return first_three(examples)


def random_key(seed: int, sha256: str) -> str:
    """64 hex digits that order contents at random, the same for the same seed."""
    return sha256_of(f"{seed}:{sha256}".encode())


def _check_split(valid: set[str], single: list[str], too_few: list[str]) -> None:
    if too_few:
        raise TableError(
            f"too few images to split: {format_names(too_few)}; a class needs one under no other "
            "label; add some or take the class out"
        )
    if not valid:
        raise TableError(
            f"too few images to split: {format_names(single)} have one each; a class needs one to "
            "train on and a different one to validate on, and at least one class must have both; "
            "add some"
        )
    if single:
        log.warning("one image only, so trained on and never evaluated: %s", format_names(single))


def _keep_together(
    usable: pd.DataFrame, valid: set[str], duplicates: list[set[str]], unambiguous: set[str]
) -> set[str]:
    """The validation images with near-duplicates on one side, unless a class would lose a side."""
    groups = [group for group in duplicates if _is_split(group, valid)]
    two_sided, max_sizes = _two_sided(usable, valid), _max_group_sizes(usable, valid)
    while True:
        moved = set(valid)
        for group in groups:
            fits = len(group) <= max(*(max_sizes.get(sha256, 0) for sha256 in group), 2)
            if min(group) in valid and group <= unambiguous and fits:
                moved |= group
            else:
                moved -= group
        lost = two_sided - _two_sided(usable, moved)
        if not lost:
            return moved
        of_lost = set(usable.sha256[usable.label.isin(lost)])
        groups = [group for group in groups if not group & of_lost]


def _is_split(group: set[str] | list[str], valid: set[str]) -> bool:
    return 0 < len(valid.intersection(group)) < len(group)


def _max_group_sizes(usable: pd.DataFrame, valid: set[str]) -> dict[str, int]:
    """How many near-duplicates of an image may be validated on: half of its class's share."""
    counts = usable[usable.sha256.isin(valid)].groupby("label").sha256.nunique()
    halves = usable.label.map(counts).fillna(0) // 2
    return dict(zip(usable.sha256, halves.astype(int), strict=True))


def _two_sided(usable: pd.DataFrame, valid: set[str]) -> set[str]:
    """The classes with images on both sides."""
    sides = usable.sha256.isin(valid).groupby(usable.label).agg(["all", "any"])
    return set(sides.index[sides["any"] & ~sides["all"]])


def _count(groups: list[list[str]]) -> str:
    return f"{len(groups)} group{'s' if len(groups) > 1 else ''}"
