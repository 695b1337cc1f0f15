"""Drift: whether a run differs from earlier runs of its output, or from validation.

A warning needs a difference that matters and a small p-value (`visionflows.evaluation.statistics`),
corrected for the values within a quantity (Bonferroni) and for the quantities of a run (Holm).
"""

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from visionflows.errors import StorageError
from visionflows.evaluation.statistics import holm
from visionflows.evaluation.thresholds import read_validation
from visionflows.models.artifact import VALIDATION, Model
from visionflows.monitoring.drift_quantities import (
    MIN_FILES,
    NEVER,
    QUANTITIES,
    Quantity,
    drift_test,
)
from visionflows.monitoring.run_records import (
    Drift,
    Finding,
    Histograms,
    RunRecord,
    confidence_bin,
)

log = logging.getLogger("visionflows.history")

ALPHA = 1 / 400  # the probability that an ordinary run warns, at most
WINDOW, NEW_NORMAL = 28, 3  # runs compared with; warnings in a row until values are the baseline
LEARNT = 5  # runs after which a warning is trusted: earlier ones may have been no anomaly


def read_validation_baseline(model: Model, raw: bool = False) -> Histograms | None:
    """Histograms of labels and confidence (uncalibrated if `raw`) in validation.csv, if any."""
    several = model.info.multi_label
    try:
        data = model.files.read(VALIDATION)
        found = read_validation(data, [] if several else model.classes, raw)
    except (OSError, KeyError, TypeError, ValueError, csv.Error, StorageError) as error:
        log.warning("%s: its validation predictions cannot be read: %s", model.storage, error)
        return None
    if several:
        rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
        labels = Counter(row["predicted"] for row in rows)
    else:
        labels = Counter(model.classes[at] for at in found.predicted.tolist())
    confidence = Counter(map(confidence_bin, found.confidence.tolist()))
    return Histograms(labels=labels, confidence=confidence) if labels else None


def detect_drift(
    record: RunRecord, earlier: Sequence[RunRecord], validation: Histograms | None = None
) -> Drift:
    """The drift of a run against earlier runs (oldest first) and against validation."""
    key = record.model.version, record.settings
    comparable = [one for one in earlier if (one.model.version, one.settings) == key]
    tests = [*_tests(record, comparable, validation)]
    p_values = holm([one.p_value for one in tests])
    findings = [_corrected(*both, comparable) for both in zip(tests, p_values, strict=True)]
    notes = [*_notes(record, earlier, comparable, validation)]
    for one in filter(lambda finding: finding.resets_baseline, findings):
        text = f"warned in {NEW_NORMAL} runs in a row; from now on this is the baseline"
        notes.append(f"{one.quantity}: {text}")
    return Drift(run=record.started, alpha=ALPHA, findings=findings, notes=notes)


def baseline_runs(quantity: str, comparable: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs that a new one is compared with in a quantity, by their own findings."""
    chosen: list[RunRecord] = []
    for record in reversed(comparable):
        finding = record.drift.finding(quantity) if record.drift else None
        is_anomaly = finding is not None and finding.warns and finding.runs >= LEARNT
        resets = finding is not None and finding.resets_baseline
        if resets or (_can_be_baseline(record) and not is_anomaly):
            chosen.append(record)
        if resets or len(chosen) == WINDOW:
            break
    return chosen[::-1]


def _can_be_baseline(record: RunRecord) -> bool:
    return record.status == "done" and record.histograms.total >= MIN_FILES


def _tests(
    record: RunRecord, comparable: Sequence[RunRecord], validation: Histograms | None
) -> Iterator[Finding]:
    """Each quantity against earlier runs, then against validation; p-values are not corrected."""
    several = record.model.multi_label
    quantities = [
        one._replace(how="labels") if several and one.name == "labels" else one
        for one in QUANTITIES
    ]
    for one in quantities:
        runs = [run.histograms for run in baseline_runs(one.name, comparable)]
        yield from _test(one, record.histograms, runs, one.matters, len(runs))
    # Only the first run of a version may warn of the latter: it has no history.
    is_first = not any(map(_can_be_baseline, comparable))
    if validation:
        for one in quantities:
            threshold = one.on_validation if is_first else NEVER
            yield from _test(one, record.histograms, [validation], threshold, 0)


def _test(
    quantity: Quantity,
    found: Histograms,
    baseline: Sequence[Histograms],
    threshold: float,
    runs: int,
) -> Iterator[Finding]:
    """The test of a quantity, if there are enough files; `runs` is 0 for validation."""
    counts = [getattr(one, quantity.field) for one in baseline]
    if test := drift_test(quantity, getattr(found, quantity.field), counts):
        before = "in the run before" if runs == 1 else f"in the {runs} runs before"
        where = before if runs else "on validation"
        yield Finding(
            quantity=quantity.name,
            against="history" if runs else "validation",
            runs=runs,
            files=sum(sum(one.values()) for one in counts),
            effect=round(test.effect, 6),
            threshold=None if threshold == NEVER else threshold,
            p_value=test.p_value,
            warns=bool(test.effect >= threshold),
            resets_baseline=False,
            description=f"{quantity.name}: {test.current}; {where}: {test.baseline}",
        )


def _corrected(test: Finding, p_value: float, comparable: Sequence[RunRecord]) -> Finding:
    """The finding with a corrected p-value, and whether it warns."""
    warns = test.warns and p_value <= ALPHA
    resets = warns and test.runs > 0 and _has_lasted(test.quantity, comparable)
    changed = {"p_value": p_value, "warns": warns, "resets_baseline": resets}
    return test.model_copy(update=changed)


def _has_lasted(quantity: str, comparable: Sequence[RunRecord]) -> bool:
    """Whether the runs just before warned of a quantity, and one more warning is enough."""
    last = [one.drift.finding(quantity) for one in comparable[1 - NEW_NORMAL :] if one.drift]
    return len(last) == NEW_NORMAL - 1 and all(
        one and one.warns and not one.resets_baseline for one in last
    )


def _notes(
    record: RunRecord,
    earlier: Sequence[RunRecord],
    comparable: Sequence[RunRecord],
    validation: Histograms | None,
) -> Iterator[str]:
    found, needed = record.histograms.total, MIN_FILES
    if found < needed:
        yield f"{found} new files are too few to test; {needed} are needed"
    if earlier and not comparable:
        yield f"the first run {_changes(record, earlier[-1])}"
    elif len(comparable) < len(earlier):
        since = comparable[0].started[:10]
        yield f"compared only with runs of this model version and settings, since {since}"
    if validation is None:
        yield "the model artifact has no validation predictions to compare with"


def _changes(record: RunRecord, last: RunRecord) -> str:
    """What differs between a run and the last one before it."""
    if record.model.version != last.model.version:
        return f"of this version; the last run used {last.model.name}@{last.model.version}"
    now, before = (" and ".join(one.settings) or "none" for one in (record, last))
    return f"with these settings ({now}); the last run had {before}"
