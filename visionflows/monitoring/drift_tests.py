"""How far a night's counts are from those of others, and by what chance: a quantity at a time.

from visionflows.monitoring.drift_tests import QUANTITIES, gap
gap(QUANTITIES[0], {"cat": 30, "dog": 70}, [{"cat": 50, "dog": 50}]).effect    # 0.2
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from visionflows.evaluation.statistics import RARE, Share, chance
from visionflows.images.image_status import SCORED_STATUSES

NEVER = 2.0  # a gap that nothing has
FEW = 20  # files: fewer say nothing
FEW_BAD = 5  # failures or outliers: likewise
_MOVED = 3  # kinds that are named
_GOOD = {"statuses": SCORED_STATUSES, "outliers": ("False",)}  # the kinds that are not bad

Counts = Mapping[str, int]


class Quantity(NamedTuple):
    """What is looked at: its name, the field of a tally, and how.

    `shares` of kinds, `steps` of a histogram, or the share of `bad` ones, which only rises. It
    warns from a gap of `matters` on; against validation, whose shares need not be those of the
    nights, of `on_validation`, if at all.
    """

    name: str
    field: str
    how: Literal["shares", "steps", "bad"]
    matters: float
    on_validation: float = NEVER


QUANTITIES = (
    Quantity("labels", "labels", "shares", 0.1, 0.3),
    Quantity("confidence", "confidence", "steps", 0.1, 0.2),
    Quantity("failures", "statuses", "bad", 0.02),
    Quantity("outliers", "outliers", "bad", 0.05),
    Quantity("sizes", "sizes", "steps", 0.2),
    Quantity("pixels", "pixels", "steps", 0.2),
    Quantity("endings", "endings", "shares", 0.2),
)


class Gap(NamedTuple):
    """A gap as a share of the files, its chance, and both sides in words."""

    effect: float
    chance: float
    ours: str
    theirs: str


def gap(quantity: Quantity, now: Counts, before: Sequence[Counts]) -> Gap | None:
    """How far a night's counts are from those of others; None where there is too little of it.

    The chance is corrected for the kinds or steps that are looked at (Bonferroni).
    """
    before = [counts for counts in before if sum(counts.values()) >= FEW]
    if sum(now.values()) < FEW or not before:
        return None
    find = {"shares": _in_shares, "steps": _in_steps, "bad": _in_bad}[quantity.how]
    return find(quantity.field, now, before)


def _in_bad(field: str, now: Counts, before: Sequence[Counts]) -> Gap:
    ours, theirs = (
        _share(now, _GOOD[field]).rest,
        [_share(c, _GOOD[field]).rest for c in before],
    )
    all_theirs = _together(theirs)
    found = chance(ours, theirs, only_more=True) if ours.part >= FEW_BAD else 1.0
    words = f"{_percent(ours)} of the files", _percent(all_theirs)
    return Gap(max(ours.value - all_theirs.value, 0.0), found, *words)


def _in_shares(field: str, now: Counts, before: Sequence[Counts]) -> Gap:
    """The gap between shares of kinds is the part of the files that is elsewhere (total
    variation)."""
    pooled = _pooled(before)
    looks = [
        (_share(now, kinds), [_share(c, kinds) for c in before]) for kinds in _groups(now, pooled)
    ]
    gaps = [abs(ours.value - _together(theirs).value) for ours, theirs in looks]
    found = min(chance(*look) for look in looks) if len(looks) > 1 else 1.0
    found *= 1 if len(looks) == 2 else len(looks)  # of two kinds one says all
    moved = sorted({*now, *pooled}, key=lambda kind: (-_moved(kind, now, pooled), kind))[:_MOVED]
    words = (_of_kinds(counts, moved) for counts in (now, pooled))
    return Gap(sum(gaps) / 2, min(found, 1.0), *words)


def _in_steps(field: str, now: Counts, before: Sequence[Counts]) -> Gap:
    """The gap between histograms is that at the step where it is widest (Kolmogorov-Smirnov)."""
    steps = sorted({int(kind) for kind in (*now, *_pooled(before))})[1:]
    looks = [(_below(now, step), [_below(counts, step) for counts in before]) for step in steps]
    if not looks:
        return Gap(0.0, 1.0, "all alike", "the same")
    gaps = [abs(ours.value - _together(theirs).value) for ours, theirs in looks]
    found = min(chance(*look) for look in looks) * len(looks)
    widest = gaps.index(max(gaps))
    ours, theirs = looks[widest]
    words = f"{_percent(ours)} of the files below {_step(field, steps[widest])}"
    return Gap(gaps[widest], min(found, 1.0), words, _percent(_together(theirs)))


def _pooled(before: Sequence[Counts]) -> Counter[str]:
    pooled: Counter[str] = Counter()
    for counts in before:
        pooled.update(counts)
    return pooled


def _groups(now: Counts, pooled: Counts) -> list[set[str]]:
    """The kinds of which both sides would have a few if they were alike; the others together."""
    both = _pooled([now, pooled])
    part = min(sum(now.values()), sum(pooled.values())) / both.total()
    large = [{kind} for kind, count in both.items() if count * part >= RARE]
    rest = both.keys() - set().union(*large)
    return [*large, rest] if rest else large


def _share(counts: Counts, kinds: Iterable[str]) -> Share:
    return Share(sum(counts.get(kind, 0) for kind in kinds), sum(counts.values()))


def _below(counts: Counts, step: int) -> Share:
    return _share(counts, [kind for kind in counts if int(kind) < step])


def _together(shares: Sequence[Share]) -> Share:
    return Share(sum(share.part for share in shares), sum(share.whole for share in shares))


def _moved(kind: str, now: Counts, pooled: Counts) -> float:
    return abs(_share(now, [kind]).value - _share(pooled, [kind]).value)


def _of_kinds(counts: Counts, kinds: Iterable[str]) -> str:
    return ", ".join(f"{kind} {_percent(_share(counts, [kind]))}" for kind in kinds)


def _step(field: str, step: int) -> str:
    """A step of a histogram in words."""
    if field == "confidence":
        return f"{step / 20:.2f}"
    if field == "pixels":
        return f"{2 ** (step - 1) / 1e6:.2g} megapixels"
    size, units = 2.0 ** (step - 1), ["bytes", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.3g} {units[0]}"


def _percent(share: Share) -> str:
    return f"{100 * share.value:.1f} %"
