"""Which images are validated on: drawn by lot, or as given; the same picture stays on one side.

    from visionflows.datasets.split import split_randomly, look_alikes
    split_randomly(usable, 0.2, 42, look_alikes(usable))     # the sha256 of those to validate on

Copies are told by their bytes, look-alikes (images.alike) by what is seen: the same photo smaller,
recompressed or cut a little. A network that has learnt one knows the other.
"""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.label_rules import LabelRule
from visionflows.errors import TableError
from visionflows.hashing import sha256_of
from visionflows.images.near_duplicates import group_duplicates, signature_array

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.table")


def group_near_duplicates(usable: "pd.DataFrame") -> list[list[str]]:
    """The groups of different contents (their sha256) that look alike, each sorted."""
    contents = usable.drop_duplicates("sha256")
    found = contents.groupby(group_duplicates(signature_array(contents.signature))).sha256
    return [sorted(group) for _, group in found if len(group) > 1]


def split_randomly(
    usable: "pd.DataFrame", valid_pct: float, seed: int, alike: list[list[str]]
) -> set[str]:
    """The sha256 of the images to validate on: a share of each class, at least one.

    A class of one image is trained on and not judged, and that is said.
    Images are drawn by their content alone, in the order of sha256(seed, content), so neither
    names nor the order of files matter, copies stay together, and a new image moves few others.
    Bytes under two labels cannot be right twice: they are never drawn, and stay in training.
    Of look-alikes all follow the one of the smallest sha256, and no other image moves for them;
    more of them than half of what their class has to validate on are all trained on.
    Raises TableError.
    """
    labels = usable.groupby("sha256").label.nunique()
    clear = set(labels.index[labels == 1])
    valid: set[str] = set()
    alone: list[str] = []
    too_few: list[str] = []
    for label, contents in usable.groupby("label").sha256.unique().items():
        drawn = sorted(clear.intersection(contents), key=lambda sha256: random_key(seed, sha256))
        if not drawn or len(contents) < 2:
            (alone if drawn else too_few).append(str(label))
            continue
        share = max(round(valid_pct * len(contents)), 1)
        valid.update(drawn[: min(share, len(contents) - 1)])
    if too_few:
        raise TableError(
            f"too few images to split: {format_names(too_few)}; a class needs one under no other label; "
            "add some or take the class out"
        )
    if not valid:
        raise TableError(
            f"too few images to split: {format_names(alone)} have one each; a class needs one to train on "
            "and a different one to validate on, and at least one class must have both; add some"
        )
    if alone:
        log.warning("one image only, so trained on and never judged: %s", format_names(alone))
    return _together(usable, valid, [set(group) for group in alike], clear)


def split_as_given(usable: "pd.DataFrame", rule: LabelRule) -> set[str]:
    """The sha256 of the images to validate on, as a csv or folders say; copies come along.

    Look-alikes stay where they were given: that they are the same is a judgement, which `notes`
    tells, and a split is given to be kept. Raises TableError.
    """
    said = usable.is_valid.astype(bool)
    valid = set(usable.sha256[said])
    meant = usable.sha256.isin(valid)
    if meant.all() or not meant.any():
        side = "train" if meant.all() else "validate"
        raise TableError(f"--labels {rule}: its split leaves no usable image to {side} on")
    copies = usable.path[meant & ~said].tolist()
    if copies:
        log.warning(
            "moved to validation, as copies of images there: %d, %s",
            len(copies),
            format_names(copies),
        )
    return valid


def near_duplicate_notes(
    usable: "pd.DataFrame", valid: set[str], alike: list[list[str]]
) -> list[str]:
    """What a person should know of the images that look alike, a line each."""
    firsts = usable.drop_duplicates("sha256").set_index("sha256")
    labels = usable.groupby("sha256").label.agg(set)
    across = [group for group in alike if 0 < len(valid.intersection(group)) < len(group)]
    beside = [group for group in alike if len(set.union(*labels[group])) > 1]
    images = int(usable.sha256.isin({sha256 for group in alike for sha256 in group}).sum())
    lines = {
        f"look alike: {images} images in {_groups(alike)}": alike,
        f"look alike, to train and to validate on: {_groups(across)}": across,
        f"look alike under different labels: {_groups(beside)}": beside,
    }
    return [f"{line}, {_told(firsts, found)}" for line, found in lines.items() if found]


def random_key(seed: int, sha256: str) -> str:
    """What a content has drawn, as 64 hex digits: the same for the same seed."""
    return sha256_of(f"{seed}:{sha256}".encode())


def _together(
    usable: "pd.DataFrame", valid: set[str], alike: Iterable[set[str]], clear: set[str]
) -> set[str]:
    """What was drawn, but for look-alikes on both sides, which go to one.

    Where that would leave a class nothing to train on, or to validate, its look-alikes stay.
    """
    apart = [group for group in alike if 0 < len(valid & group) < len(group)]
    before, room = _two_sided(usable, valid), _room(usable, valid)
    while True:
        moved = set(valid)
        for group in apart:
            fits = len(group) <= max(*(room.get(one, 0) for one in group), 2)
            if min(group) in valid and group <= clear and fits:
                moved |= group
            else:
                moved -= group
        lost = before - _two_sided(usable, moved)
        if not lost:
            return moved
        theirs = set(usable.sha256[usable.label.isin(lost)])
        apart = [group for group in apart if not group & theirs]


def _room(usable: "pd.DataFrame", valid: set[str]) -> dict[str, int]:
    """How many look-alikes of each image may be validated on: half of what its class has there.

    A chain of frames of one camera may be most of a class.
    """
    drawn = usable[usable.sha256.isin(valid)].groupby("label").sha256.nunique()
    halves = usable.label.map(drawn).fillna(0) // 2
    return dict(zip(usable.sha256, halves.astype(int), strict=True))


def _two_sided(usable: "pd.DataFrame", valid: set[str]) -> set[str]:
    """The classes with images to train on, and to validate on."""
    sides = usable.sha256.isin(valid).groupby(usable.label).agg(["all", "any"])
    return set(sides.index[sides["any"] & ~sides["all"]])


def _groups(found: list[list[str]]) -> str:
    return f"{len(found)} group{'s' if len(found) > 1 else ''}"


def _told(firsts: "pd.DataFrame", found: list[list[str]]) -> str:
    """Up to three groups, and up to three images of each."""
    told = []
    for group in found[:3]:
        rows = firsts.loc[group[:3]].itertuples()
        told.append(
            " ≈ ".join(
                f"{format_name(str(row.path))} ({format_name(str(row.label))})" for row in rows
            )
        )
    return ", ".join(told) + (", …" if len(found) > 3 else "")
