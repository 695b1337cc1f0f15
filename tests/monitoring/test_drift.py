"""Drift warns of runs whose shares moved, and of at most two of a hundred ordinary runs."""

from collections.abc import Sequence

import numpy as np
import pytest

from visionflows.monitoring.drift import NEW_NORMAL, WINDOW, baseline_runs, detect_drift
from visionflows.monitoring.drift_quantities import MIN_FILES
from visionflows.monitoring.run_records import Histograms, RecordedModel, RunRecord

SURE = np.array([1, 1, 2, 3, 5, 8, 80]) / 100  # confidence from 0.65 on, in twentieths


class Inbox:
    """Runs drawn at random, each tested for drift against the earlier ones."""

    def __init__(self, seed: int = 1):
        self.rng, self.records = np.random.default_rng(seed), []

    def record(self, files=500, shares=(0.5, 0.3, 0.2), sure=SURE, failed=0.0, **more) -> RunRecord:
        ok = files - int(self.rng.binomial(files, failed))
        labels = dict(zip("abcdefghij", map(int, self.rng.multinomial(ok, shares)), strict=False))
        kinds = range(20 - len(sure), 20)
        confidence = zip(map(str, kinds), map(int, self.rng.multinomial(ok, sure)), strict=True)
        outliers = int(self.rng.binomial(ok, more.pop("outliers", 0.05)))
        counts = {"statuses": {"ok": ok, "unreadable": files - ok}, "labels": labels}
        counts |= {"confidence": dict(confidence), "endings": {".jpg": files}}
        counts |= {"outliers": {"True": outliers, "False": ok - outliers}}
        return RunRecord(
            **{
                "schema_version": 1,
                "started": f"2026-01-01T00:00:00.{len(self.records):03d}+00:00",
            },
            **{"ended": "", "input": "in", "contents": "0" * 64, "runs": [], "seconds": 1.0},
            model=RecordedModel(
                name="pets",
                version=more.pop("version", "1"),
                digest="d",
                storage="store/models/pets/1",
            ),
            status=more.pop("status", "done"),
            settings=more.pop("settings", []),
            histograms=Histograms(**(counts | more)),
        )

    def keep(self, record: RunRecord, validation: Histograms | None = None) -> RunRecord:
        drift = detect_drift(record, self.records, validation)
        self.records.append(record.model_copy(update={"drift": drift}))
        return self.records[-1]

    def usual(self, records: int) -> "Inbox":
        for _ in range(records):
            self.keep(self.record(int(self.rng.integers(200, 1000))))
        return self


def warned(records: Sequence[RunRecord]) -> int:
    return sum(bool(record.drifted) for record in records)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hundred_ordinary_runs_raise_at_most_two_warnings(seed):
    assert warned(Inbox(seed).usual(100).records) <= 2


def test_runs_that_vary_raise_few_warnings():
    inbox = Inbox()
    for share in inbox.rng.normal(0.5, 0.06, 100):
        inbox.keep(inbox.record(900, (share, 0.8 - share, 0.2)))
    assert warned(inbox.records) <= 2


@pytest.mark.parametrize(
    "quantity, what",
    [
        ("labels", {"shares": (0.7, 0.15, 0.15)}),
        ("labels", {"shares": (0.4, 0.25, 0.15, 0.2)}),  # one that never came before
        ("confidence", {"sure": np.full(10, 0.1)}),
        ("failures", {"failed": 0.06}),
        ("outliers", {"outliers": 0.3}),
        ("endings", {"endings": {".jpg": 300, ".png": 200}}),
        ("sizes", {"sizes": {"14": 500}}),
    ],
)
def test_a_run_with_drift_warns_of_the_quantity(quantity, what):
    inbox = Inbox()
    for _ in range(20):
        inbox.keep(inbox.record(500, sizes={"14": 100, "17": 400}))
    record = inbox.keep(inbox.record(500, **({"sizes": {"14": 110, "17": 390}} | what)))
    assert record.drifted == [quantity]
    (line,) = record.drift.warnings
    assert line.startswith(f"{quantity}: ")
    assert "in the 20 runs before: " in line


def test_fewer_failures_or_outliers_do_not_warn():
    inbox = Inbox()
    for _ in range(10):
        inbox.keep(inbox.record(500, failed=0.2, outliers=0.4))
    assert inbox.keep(inbox.record(500, failed=0.0, outliers=0.0)).drifted == []


def test_a_small_effect_is_reported_and_does_not_warn():
    inbox = Inbox()
    for _ in range(20):
        inbox.keep(inbox.record(1_000_000))
    record = inbox.keep(inbox.record(1_000_000, (0.57, 0.25, 0.18)))
    found = record.drift.finding("labels")
    assert found.p_value < 0.001
    assert found.effect == pytest.approx(0.07, abs=0.003)
    assert not found.warns


def test_another_model_version_starts_a_new_baseline():
    inbox = Inbox().usual(10)
    record = inbox.keep(inbox.record(shares=(0.9, 0.05, 0.05), version="2"))
    assert record.drifted == []
    assert record.drift.findings == []
    assert "the first run of this version; the last run used pets@1" in record.drift.notes
    again = inbox.keep(inbox.record(shares=(0.9, 0.05, 0.05), version="2"))
    assert again.drift.finding("labels").runs == 1
    assert any(
        "only with runs of this model version and settings" in note for note in again.drift.notes
    )


def test_other_settings_start_a_new_baseline():
    """Calibrated probabilities are less confident than raw ones."""
    inbox, raw = Inbox(), {"sure": (0.0, 0.0, 0.0, 0.0, 1.0), "settings": ["raw"]}
    for _ in range(10):
        inbox.keep(inbox.record(**raw))
    assert inbox.keep(inbox.record(settings=["raw"])).drifted == ["confidence"]
    calibrated = inbox.keep(inbox.record())
    assert calibrated.drifted == []
    note = "the first run with these settings (none); the last run had raw"
    assert note in calibrated.drift.notes
    assert inbox.keep(inbox.record(**raw)).drift.finding("confidence").runs == 10
    assert inbox.keep(inbox.record()).drift.finding("confidence").runs == 1


def test_a_lasting_change_warns_three_times_and_is_the_new_baseline():
    inbox = Inbox().usual(20)
    changed = [inbox.keep(inbox.record(900, (0.8, 0.1, 0.1))) for _ in range(12)]
    assert [bool(record.drifted) for record in changed] == [True] * NEW_NORMAL + [False] * 9
    assert len(baseline_runs("labels", inbox.records)) == 10
    assert changed[2].drift.notes[-1].startswith("labels: warned in 3 runs in a row")
    back = [inbox.keep(inbox.record(900)) for _ in range(2)]
    assert warned(back) == 2


def test_a_run_that_warned_is_not_part_of_the_baseline():
    inbox = Inbox().usual(20)
    for _ in range(4):
        assert inbox.keep(inbox.record(900, (0.8, 0.1, 0.1))).drifted == ["labels"]
        assert inbox.keep(inbox.record(900)).drifted == []
    assert len(baseline_runs("labels", inbox.records)) == 24
    assert len(baseline_runs("labels", inbox.usual(30).records)) == WINDOW


def test_a_failed_run_is_tested_and_not_part_of_the_baseline():
    inbox = Inbox().usual(9)
    assert inbox.keep(inbox.record(500, failed=0.5, status="failed")).drifted == ["failures"]
    assert len(baseline_runs("labels", inbox.records)) == 9


def test_a_run_of_few_files_is_neither_tested_nor_part_of_the_baseline():
    inbox = Inbox().usual(9)
    record = inbox.keep(inbox.record(MIN_FILES - 1, (0.0, 0.0, 1.0)))
    assert record.drift.findings == []
    assert record.drift.notes[0] == "19 new files are too few to test; 20 are needed"
    assert len(baseline_runs("labels", inbox.records)) == 9


def test_validation_warns_of_a_large_effect_in_the_first_run_of_a_version():
    baseline = Histograms(labels={"a": 200, "b": 120, "c": 80}, confidence={"19": 330, "18": 70})
    inbox = Inbox()
    first = inbox.keep(inbox.record(500, (0.6, 0.25, 0.15)), baseline)
    assert first.drifted == []
    assert first.drift.finding("labels", "validation").effect > 0.05
    drifted = Inbox()
    first = drifted.keep(drifted.record(500, (0.02, 0.02, 0.96), sure=np.full(10, 0.1)), baseline)
    assert first.drifted == ["labels", "confidence"]
    assert first.drift.warnings[0].endswith("; on validation: c 20.0 %, a 50.0 %, b 30.0 %")
    assert (
        drifted.keep(
            drifted.record(500, (0.02, 0.02, 0.96), sure=np.full(10, 0.1)), baseline
        ).drifted
        == []
    )
