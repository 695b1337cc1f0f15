"""Choose whole groups to validate on, about a share of each class."""

import logging
from collections import Counter, defaultdict

import pandas as pd

from visionflows.datasets.format_names import first_three, format_name, format_names
from visionflows.datasets.group_rules import GroupRule
from visionflows.datasets.label_rules import LabelRule
from visionflows.datasets.split import random_key, same_side_ids
from visionflows.datasets.stratify import IMAGES, stratify
from visionflows.errors import TableError
from visionflows.label_sets import by_class, is_multi_label

log = logging.getLogger("visionflows.table")


def split_by_group(
    usable: pd.DataFrame, valid_pct: float, seed: int, rule: GroupRule, labels: LabelRule
) -> set[str]:
    """The sha256 of the images to validate on, as `draw_groups` chooses them.

    A class of which no group can leave training is only trained on. Raises TableError if that is
    every class.
    """
    is_valid = draw_groups(usable, valid_pct, seed)
    if not is_valid.any():
        raise TableError(_no_split(usable, rule, labels))
    if never := sorted({*by_class(usable).label} - {*by_class(usable[is_valid]).label}):
        log.warning(
            "%s, so trained on and never evaluated: %s; add images%s",
            f"--group {rule}: a class would lose all its groups" if rule.kind else "one image only",
            *(format_names(never), " of other groups" if rule.kind else ""),
        )
    return {*usable.sha256[is_valid]}


def draw_groups(usable: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Whether each row is drawn: whole groups, about a share of each class, fewer than all of it.

    Images that `same_side_ids` joins are one group; one without a group is its own. The order of
    sha256(seed, group) decides, so a new image moves few others; a group is drawn if its classes
    get nearer to their shares. A class that got none then gets the group that fits best. Groups
    with bytes under two labels come last. Images of several labels are drawn by `stratify`, and
    groups with bytes under two sets of labels are not.
    """
    ids = same_side_ids(usable)
    contents = usable.drop_duplicates(["sha256", "label"])
    ambiguous = {*ids[contents.index[contents.sha256.duplicated(keep=False)]]}
    keys: dict[int, str] = {}
    for group, key in zip(ids, _random_keys(usable, seed), strict=True):
        keys[group] = min(key, keys.get(group, key))
    order = sorted(keys, key=lambda group: (group in ambiguous, keys[group][1:]))
    if is_multi_label(usable):
        return ids.isin(_stratified(contents, ids, order, ambiguous, share))
    draw = _Draw(contents.label, ids[contents.index], share)
    for group in order:
        if draw.gain(group) > 0:
            draw.take(group)
    for label in sorted(draw.totals):
        if draw.left[label] == draw.totals[label]:
            groups = [group for group in order if label in draw.counts[group]]
            if possible := [group for group in groups if draw.gain(group) > -float("inf")]:
                draw.take(max(possible, key=draw.gain))
    return ids.isin(draw.drawn)


def _stratified(
    contents: pd.DataFrame, ids: pd.Series, order: list[int], ambiguous: set[int], share: float
) -> set[int]:
    """The groups, of contents of several labels, that iterative stratification draws."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for images in (contents.assign(label=IMAGES), by_class(contents)):
        for group, label in zip(ids[images.index], images.label, strict=True):
            counts[group][label] += 1
    first = [at for at, group in enumerate(order) if group in ambiguous]
    parts = stratify([counts[group] for group in order], (1 - share, share), first)
    return {group for group, part in zip(order, parts, strict=True) if part}


def groups_on_both_sides(usable: pd.DataFrame, valid: set[str], rule: GroupRule) -> list[str]:
    """A note on the groups that a given split separates, if there are some."""
    named = usable[usable.group != ""]
    sides = named.sha256.isin(valid).groupby(named.group).agg(["size", "sum"])
    across = sides[(sides["sum"] > 0) & (sides["sum"] < sides["size"])]
    if across.empty:
        return []
    remarks = [f"{size - valid} and {valid} images" for _, size, valid in across.itertuples()]
    return [
        f"--group {rule}: moves no image of a given split; {len(across)} of {len(sides)} groups "
        f"are in training and in validation: {format_names([*across.index], remarks)}"
    ]


class _Draw:
    """The groups drawn so far, and what each class still needs."""

    def __init__(self, labels: pd.Series, ids: pd.Series, share: float):
        self.counts: dict[int, Counter[str]] = defaultdict(Counter)  # of classes, by group
        for group, label in zip(ids, labels, strict=True):
            self.counts[group][label] += 1
        self.totals = Counter(labels)
        self.needed = {label: max(round(share * n), 1) for label, n in self.totals.items()}
        self.left = dict(self.totals)  # not drawn
        self.drawn: set[int] = set()

    def gain(self, group: int) -> float:
        """How much nearer the classes of a group get to their shares; -inf if one loses all."""
        counts, needed = self.counts[group], self.needed
        if any(self.left[label] <= n for label, n in counts.items()):
            return -float("inf")
        nearer = {label: abs(needed[label]) - abs(needed[label] - n) for label, n in counts.items()}
        return sum(change / self.totals[label] for label, change in nearer.items())

    def take(self, group: int) -> None:
        self.drawn.add(group)
        for label, n in self.counts[group].items():
            self.needed[label] -= n
            self.left[label] -= n


def _random_keys(usable: pd.DataFrame, seed: int) -> pd.Series:
    """The key of each image's group, or of its content; groups sort before contents."""
    named = usable.group != ""
    keys = usable.group.where(named, usable.sha256).map(lambda name: random_key(seed, name))
    return named.map({True: "0", False: "1"}) + keys


def _no_split(usable: pd.DataFrame, rule: GroupRule, labels: LabelRule) -> str:
    """The error for groups of which none can leave training."""
    if not rule.kind:
        return (
            f"--labels {labels}: each class has one image only, apart from near-duplicates, so "
            "none can be validated on; add some"
        )
    groups, of_class = same_side_ids(usable).nunique(), by_class(usable).groupby("label").group
    within = [
        f"{format_name(str(label))} in {format_name(names.iloc[0])}"
        for label, names in of_class
        if names.nunique() == 1 and names.iloc[0]
    ]
    if groups == 1:
        what = f"all {len(usable)} images are in one group (or joined by near-duplicates)"
    elif rule.kind == labels.kind == "folder":
        what = f"--labels folder makes each group a class of its own, {first_three(within)}"
    else:
        what = "each group has all images of some class"
        what += f", such as {first_three(within)}" if within else ""
    return (
        f"--group {rule}: {what}, so none can be validated on; give a --group of which each class "
        "has several, such as regex:<pattern with one group>, or train without --group"
    )
