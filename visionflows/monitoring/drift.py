"""Drift: whether a night is another than those before it, or than validation, and what of it.

    from visionflows.monitoring.drift import judged
    judged(night, nights, validation).warnings

Looked at are the shares of labels and of file endings, confidence and sizes (at every step of their
histograms), the share of failures and of outliers. A warning needs a gap that matters and a small
chance of it: `trust.chances` says what that is where nights differ by themselves. The chance is
corrected for what is looked at within a quantity (Bonferroni), for all quantities of a night (Holm)
and, by NIGHTLY, for the nights of a year. A night is compared with the last WINDOW of the same
model version and settings (`Night.kind`), but for those that warned themselves; the last of LASTING
in a row is the new normal.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from visionflows.evaluation.statistics import holm
from visionflows.monitoring.drift_tests import FEW, NEVER, QUANTITIES, Gap, Quantity, gap
from visionflows.monitoring.run_records import Drift, Finding, RunRecord, Tally

NIGHTLY = 1 / 400  # the chance that an ordinary night warns, at most
WINDOW, LASTING = 28, 3  # nights
LEARNT = 5  # nights that know what is usual: what warned before may have been no oddity


class _Look(NamedTuple):
    """A gap of a quantity, beside whom it was found, and from where on it warns."""

    quantity: Quantity
    against: Literal["history", "validation"]
    run_records: int
    files: int
    gap: Gap
    threshold: float


def judged(
    run_record: RunRecord, run_records: Sequence[RunRecord], validation: Tally | None = None
) -> Drift:
    """What a night is, beside those before it, the oldest first; and beside validation."""
    same = [one for one in run_records if one.kind == run_record.kind]
    looks: list[_Look] = []
    if run_record.tally.found >= FEW:
        looks = [*_at_history(run_record, same), *_at_validation(run_record, same, validation)]
    corrected = holm([look.gap.chance for look in looks])
    findings = [_finding(*both, same) for both in zip(looks, corrected, strict=True)]
    notes = [*_notes(run_record, run_records, same, validation)]
    notes += [
        f"{one.quantity}: warned {LASTING} nights in a row; from now on this is what is usual"
        for one in findings
        if one.anew
    ]
    return Drift(run_record=run_record.started, alpha=NIGHTLY, findings=findings, notes=notes)


def comparable(quantity: str, same: Sequence[RunRecord]) -> list[RunRecord]:
    """The nights that a new one is compared with in a quantity, by what was found of them."""
    chosen: list[RunRecord] = []
    for run_record in reversed(same):
        found = run_record.drift.finding(quantity) if run_record.drift else None
        odd = found is not None and found.warns and found.run_records >= LEARNT
        anew = found is not None and found.anew
        if anew or (run_record.status == "done" and run_record.tally.found >= FEW and not odd):
            chosen.append(run_record)
        if anew or len(chosen) == WINDOW:
            break
    return chosen[::-1]


def _at_history(run_record: RunRecord, same: Sequence[RunRecord]) -> Iterable[_Look]:
    for quantity in QUANTITIES:
        before = [one.tally.of(quantity.field) for one in comparable(quantity.name, same)]
        found = gap(quantity, run_record.tally.of(quantity.field), before)
        if found:
            files = sum(sum(counts.values()) for counts in before)
            yield _Look(quantity, "history", len(before), files, found, quantity.matters)


def _at_validation(
    run_record: RunRecord, same: Sequence[RunRecord], told: Tally | None
) -> Iterable[_Look]:
    """Told every night; but only the first of a version, which has no other past, may warn."""
    first = not any(one.tally.found >= FEW and one.status == "done" for one in same)
    if told is None:
        return
    for quantity in QUANTITIES:
        theirs = told.of(quantity.field)
        found = gap(quantity, run_record.tally.of(quantity.field), [theirs])
        if found:
            threshold = quantity.on_validation if first else NEVER
            yield _Look(quantity, "validation", 0, sum(theirs.values()), found, threshold)


def _finding(look: _Look, corrected: float, same: Sequence[RunRecord]) -> Finding:
    name, run_records = look.quantity.name, look.run_records
    warns = corrected <= NIGHTLY and look.gap.effect >= look.threshold
    where = {0: "on validation", 1: "the night before"}.get(
        run_records, f"in the {run_records} nights before"
    )
    return Finding(
        quantity=name,
        against=look.against,
        run_records=run_records,
        files=look.files,
        effect=round(look.gap.effect, 6),
        threshold=None if look.threshold == NEVER else look.threshold,
        p_value=corrected,
        warns=warns,
        anew=warns and run_records > 0 and _lasting(name, same),
        said=f"{name}: {look.gap.ours}; {where}: {look.gap.theirs}",
    )


def _lasting(quantity: str, same: Sequence[RunRecord]) -> bool:
    """Whether the nights just before have warned of a quantity, and one more is enough."""
    last = [one.drift.finding(quantity) for one in same[1 - LASTING :] if one.drift]
    return len(last) == LASTING - 1 and all(one and one.warns and not one.anew for one in last)


def _notes(
    run_record: RunRecord,
    run_records: Sequence[RunRecord],
    same: Sequence[RunRecord],
    validation: Tally | None,
) -> Iterable[str]:
    if run_record.tally.found < FEW:
        yield f"{run_record.tally.found} new files are too few to judge; {FEW} would do"
    if run_records and not same:
        yield f"the first night {_unlike(run_record, run_records[-1])}"
    elif len(same) < len(run_records):
        since = same[0].started[:10]
        yield f"compared with nights of this model version and settings alone, since {since}"
    if validation is None:
        yield "the model's bundle does not say what it answered on validation"
    elif not validation.confidence:
        yield "the model's bundle does not say how sure it was on validation"


def _unlike(run_record: RunRecord, last: RunRecord) -> str:
    """What a night has not in common with the last one before it."""
    if run_record.model.version != last.model.version:
        was = last.model
        return f"of this version; the last one was of {was.name}@{was.version}"
    ours, theirs = (" and ".join(one.settings) or "none" for one in (run_record, last))
    return f"of these settings ({ours}); the last one had {theirs}"
