"""Drift tests: how far a run's counts are from a baseline, one quantity at a time."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from visionflows.evaluation.statistics import MIN_EXPECTED, Proportion, p_value
from visionflows.images.image_status import SCORED_STATUSES
from visionflows.label_sets import class_names

NEVER = 2.0  # an effect that no test reaches
MIN_FILES, MIN_FAILURES = 20, 5  # fewer files, and fewer failures or outliers, are not tested
_GOOD = {"statuses": SCORED_STATUSES, "outliers": ("False",)}  # what is no failure, no outlier

Counts = Mapping[str, int]


class Quantity(NamedTuple):
    """What is tested: its name, its field in `Histograms`, and how.

    `shares` tests each value, `labels` each of several labels of a file, `steps` each step of a
    histogram, and `bad` whether failures rise.
    A test warns from an effect of `matters` on, and against validation, of `on_validation`.
    """

    name: str
    field: str
    how: Literal["shares", "labels", "steps", "bad"]
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


class DriftTest(NamedTuple):
    """The result of a test: effect as a share of the files, p-value, both sides as text."""

    effect: float
    p_value: float
    current: str
    baseline: str


def drift_test(quantity: Quantity, current: Counts, baseline: Sequence[Counts]) -> DriftTest | None:
    """The test of a run's counts against those of a baseline; None if there are too few files."""
    baseline = [counts for counts in baseline if sum(counts.values()) >= MIN_FILES]
    if sum(current.values()) < MIN_FILES or not baseline:
        return None
    test = {
        **{"shares": _test_shares, "labels": _test_labels},
        **{"steps": _test_steps, "bad": _test_failures},
    }[quantity.how]
    return test(quantity.field, current, baseline)


def _test_failures(field: str, current: Counts, baseline: Sequence[Counts]) -> DriftTest:
    bad = _share(current, _GOOD[field]).rest
    earlier = [_share(counts, _GOOD[field]).rest for counts in baseline]
    pooled = _pool_shares(earlier)
    p = p_value(bad, earlier, only_more=True) if bad.part >= MIN_FAILURES else 1.0
    effect = max(bad.value - pooled.value, 0.0)
    return DriftTest(effect, p, f"{_percent(bad)} of the files", _percent(pooled))


def _test_shares(field: str, current: Counts, baseline: Sequence[Counts]) -> DriftTest:
    """The effect is the share of the files that have another value (total variation)."""
    pooled = sum(map(Counter, baseline), Counter[str]())
    pairs = [
        (_share(current, values), [_share(counts, values) for counts in baseline])
        for values in _groups(current, pooled)
    ]
    effects = [abs(now.value - _pool_shares(earlier).value) for now, earlier in pairs]
    p = min(p_value(*pair) for pair in pairs) if len(pairs) > 1 else 1.0
    p *= 1 if len(pairs) == 2 else len(pairs)  # of two values, one share gives the other
    moved = sorted({*current, *pooled}, key=lambda value: (-_moved(value, current, pooled), value))
    texts = (_describe(counts, moved[:3]) for counts in (current, pooled))
    return DriftTest(sum(effects) / 2, min(p, 1.0), *texts)


def _test_labels(field: str, current: Counts, baseline: Sequence[Counts]) -> DriftTest:
    """The effect is the largest difference of the share of files with a label.

    Files have several labels, or none, so shares do not add to 1: each label is a test of its own.
    """
    pooled = sum(map(Counter, baseline), Counter[str]())
    part = min(sum(current.values()), pooled.total()) / (sum(current.values()) + pooled.total())
    having: dict[str, list[str]] = {}  # the combinations with each label
    for text in {*current, *pooled}:
        for name in class_names(text, True) or ("no label",):
            having.setdefault(name, []).append(text)
    both = Counter(current) + pooled
    tested = {
        name: (_share(current, texts), [_share(counts, texts) for counts in baseline])
        for name, texts in having.items()
        if sum(both[text] for text in texts) * part >= MIN_EXPECTED
    }
    if not tested:
        return DriftTest(0.0, 1.0, "no frequent label", "the same")
    p = min(p_value(*pair) for pair in tested.values()) * len(tested)
    moved = {name: abs(now.value - _pool_shares(old).value) for name, (now, old) in tested.items()}
    first = sorted(moved, key=lambda name: (-moved[name], name))[:3]
    now, earlier = (
        ", ".join(f"{name} {_percent(share(*tested[name]))}" for name in first)
        for share in (lambda now, _: now, lambda _, old: _pool_shares(old))
    )
    return DriftTest(max(moved.values()), min(p, 1.0), now, earlier)


def _test_steps(field: str, current: Counts, baseline: Sequence[Counts]) -> DriftTest:
    """The effect is the largest difference of the cumulative shares (Kolmogorov-Smirnov)."""
    steps = sorted({int(value) for value in {*current}.union(*baseline)})[1:]
    pairs = [(_below(current, step), [_below(one, step) for one in baseline]) for step in steps]
    if not pairs:
        return DriftTest(0.0, 1.0, "all in one bin", "the same")
    effects = [abs(now.value - _pool_shares(earlier).value) for now, earlier in pairs]
    p = min(p_value(*pair) for pair in pairs) * len(pairs)
    widest = effects.index(max(effects))
    now, earlier = pairs[widest]
    text = f"{_percent(now)} of the files below {_step_text(field, steps[widest])}"
    return DriftTest(effects[widest], min(p, 1.0), text, _percent(_pool_shares(earlier)))


def _groups(current: Counts, pooled: Counts) -> list[set[str]]:
    """The values that both sides are expected to have; all rare ones are one group."""
    both = Counter(current) + Counter(pooled)
    part = min(sum(current.values()), sum(pooled.values())) / both.total()
    large = [{value} for value, count in both.items() if count * part >= MIN_EXPECTED]
    rest = both.keys() - set().union(*large)
    return [*large, rest] if rest else large


def _share(counts: Counts, values: Iterable[str]) -> Proportion:
    return Proportion(sum(counts.get(value, 0) for value in values), sum(counts.values()))


def _below(counts: Counts, step: int) -> Proportion:
    return _share(counts, [value for value in counts if int(value) < step])


def _pool_shares(shares: Sequence[Proportion]) -> Proportion:
    return Proportion(sum(one.part for one in shares), sum(one.total for one in shares))


def _moved(value: str, current: Counts, pooled: Counts) -> float:
    return abs(_share(current, [value]).value - _share(pooled, [value]).value)


def _describe(counts: Counts, values: Iterable[str]) -> str:
    return ", ".join(f"{value} {_percent(_share(counts, [value]))}" for value in values)


def _step_text(field: str, step: int) -> str:
    """A step of a histogram with its unit."""
    if field == "confidence":
        return f"{step / 20:.2f}"
    if field == "pixels":
        return f"{2 ** (step - 1) / 1e6:.2g} megapixels"
    power = min((step - 1) // 10, 3)
    return f"{2.0 ** (step - 1 - 10 * power):.3g} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"


def _percent(share: Proportion) -> str:
    return f"{100 * share.value:.1f} %"
