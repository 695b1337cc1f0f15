"""Which nights warn: those whose shares moved, and of a hundred ordinary ones at most two."""

from collections.abc import Sequence

import numpy as np
import pytest

from visionflows.monitoring.drift import FEW, LASTING, WINDOW, comparable, judged
from visionflows.monitoring.run_records import RecordedModel, RunRecord, Tally

SURE = np.array([1, 1, 2, 3, 5, 8, 80]) / 100  # confidence from 0.65 on, in twentieths


class Inbox:
    """Nights drawn at random, each judged beside those before."""

    def __init__(self, seed: int = 1):
        self.rng, self.run_records = np.random.default_rng(seed), []

    def run_record(
        self, files=500, shares=(0.5, 0.3, 0.2), sure=SURE, failed=0.0, **more
    ) -> RunRecord:
        ok = files - int(self.rng.binomial(files, failed))
        labels = dict(zip("abcdefghij", map(int, self.rng.multinomial(ok, shares)), strict=False))
        kinds = range(20 - len(sure), 20)
        confidence = zip(map(str, kinds), map(int, self.rng.multinomial(ok, sure)), strict=True)
        outliers = int(self.rng.binomial(ok, more.pop("outliers", 0.05)))
        told = {"statuses": {"ok": ok, "unreadable": files - ok}, "labels": labels}
        told |= {"confidence": dict(confidence), "endings": {".jpg": files}}
        told |= {"outliers": {"True": outliers, "False": ok - outliers}}
        return RunRecord(
            **{
                "schema_version": 1,
                "started": f"2026-01-01T00:00:00.{len(self.run_records):03d}+00:00",
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
            tally=Tally(**(told | more)),
        )

    def keep(self, run_record: RunRecord, validation: Tally | None = None) -> RunRecord:
        drift = judged(run_record, self.run_records, validation)
        self.run_records.append(run_record.model_copy(update={"drift": drift}))
        return self.run_records[-1]

    def usual(self, run_records: int) -> "Inbox":
        for _ in range(run_records):
            self.keep(self.run_record(int(self.rng.integers(200, 1000))))
        return self


def warned(run_records: Sequence[RunRecord]) -> int:
    return sum(bool(run_record.warned_of) for run_record in run_records)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hundred_ordinary_nights_raise_at_most_two_warnings(seed):
    assert warned(Inbox(seed).usual(100).run_records) <= 2


def test_nights_that_differ_by_themselves_raise_few():
    inbox = Inbox()
    for share in inbox.rng.normal(0.5, 0.06, 100):
        inbox.keep(inbox.run_record(900, (share, 0.8 - share, 0.2)))
    assert warned(inbox.run_records) <= 2


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
def test_a_night_that_is_another_warns_of_what_is(quantity, what):
    inbox = Inbox()
    for _ in range(20):
        inbox.keep(inbox.run_record(500, sizes={"14": 100, "17": 400}))
    run_record = inbox.keep(inbox.run_record(500, **({"sizes": {"14": 110, "17": 390}} | what)))
    assert run_record.warned_of == [quantity]
    (line,) = run_record.drift.warnings
    assert line.startswith(f"{quantity}: ")
    assert "in the 20 nights before: " in line


def test_what_moves_in_the_good_direction_does_not_warn():
    inbox = Inbox()
    for _ in range(10):
        inbox.keep(inbox.run_record(500, failed=0.2, outliers=0.4))
    assert inbox.keep(inbox.run_record(500, failed=0.0, outliers=0.0)).warned_of == []


def test_a_gap_that_does_not_matter_is_told_and_does_not_warn():
    inbox = Inbox()
    for _ in range(20):
        inbox.keep(inbox.run_record(1_000_000))
    run_record = inbox.keep(inbox.run_record(1_000_000, (0.57, 0.25, 0.18)))
    found = run_record.drift.finding("labels")
    assert found.p_value < 0.001
    assert found.effect == pytest.approx(0.07, abs=0.003)
    assert not found.warns


def test_another_version_begins_anew_and_says_so():
    inbox = Inbox().usual(10)
    run_record = inbox.keep(inbox.run_record(shares=(0.9, 0.05, 0.05), version="2"))
    assert run_record.warned_of == []
    assert run_record.drift.findings == []
    assert "the first night of this version; the last one was of pets@1" in run_record.drift.notes
    again = inbox.keep(inbox.run_record(shares=(0.9, 0.05, 0.05), version="2"))
    assert again.drift.finding("labels").run_records == 1
    assert any("of this model version and settings alone" in note for note in again.drift.notes)


def test_other_settings_are_no_change_of_what_comes_in():
    """Calibrated probabilities are less sure than the network's own, every night."""
    inbox, raw = Inbox(), {"sure": (0.0, 0.0, 0.0, 0.0, 1.0), "settings": ["raw"]}
    for _ in range(10):
        inbox.keep(inbox.run_record(**raw))
    assert inbox.keep(inbox.run_record(settings=["raw"])).warned_of == ["confidence"]
    calibrated = inbox.keep(inbox.run_record())
    assert calibrated.warned_of == []
    note = "the first night of these settings (none); the last one had raw"
    assert note in calibrated.drift.notes
    assert inbox.keep(inbox.run_record(**raw)).drift.finding("confidence").run_records == 10
    assert inbox.keep(inbox.run_record()).drift.finding("confidence").run_records == 1


def test_a_change_that_lasts_warns_three_nights_and_is_the_new_normal():
    inbox = Inbox().usual(20)
    changed = [inbox.keep(inbox.run_record(900, (0.8, 0.1, 0.1))) for _ in range(12)]
    assert [bool(run_record.warned_of) for run_record in changed] == [True] * LASTING + [False] * 9
    assert len(comparable("labels", inbox.run_records)) == 10
    assert changed[2].drift.notes[-1].startswith("labels: warned 3 nights in a row")
    back = [inbox.keep(inbox.run_record(900)) for _ in range(2)]
    assert warned(back) == 2


def test_an_odd_night_is_not_what_others_are_compared_with():
    inbox = Inbox().usual(20)
    for _ in range(4):
        assert inbox.keep(inbox.run_record(900, (0.8, 0.1, 0.1))).warned_of == ["labels"]
        assert inbox.keep(inbox.run_record(900)).warned_of == []
    assert len(comparable("labels", inbox.run_records)) == 24
    assert len(comparable("labels", inbox.usual(30).run_records)) == WINDOW


def test_a_run_that_failed_is_judged_and_not_compared_with():
    inbox = Inbox().usual(9)
    assert inbox.keep(inbox.run_record(500, failed=0.5, status="failed")).warned_of == ["failures"]
    assert len(comparable("labels", inbox.run_records)) == 9


def test_a_night_of_a_few_files_is_neither_judged_nor_compared_with():
    inbox = Inbox().usual(9)
    run_record = inbox.keep(inbox.run_record(FEW - 1, (0.0, 0.0, 1.0)))
    assert run_record.drift.findings == []
    assert run_record.drift.notes[0] == "19 new files are too few to judge; 20 would do"
    assert len(comparable("labels", inbox.run_records)) == 9


def test_validation_warns_the_first_night_of_a_version_past_a_large_gap():
    told = Tally(labels={"a": 200, "b": 120, "c": 80}, confidence={"19": 330, "18": 70})
    inbox = Inbox()
    first = inbox.keep(inbox.run_record(500, (0.6, 0.25, 0.15)), told)
    assert first.warned_of == []
    assert first.drift.finding("labels", "validation").effect > 0.05
    odd = Inbox()
    first = odd.keep(odd.run_record(500, (0.02, 0.02, 0.96), sure=np.full(10, 0.1)), told)
    assert first.warned_of == ["labels", "confidence"]
    assert first.drift.warnings[0].endswith("; on validation: c 20.0 %, a 50.0 %, b 30.0 %")
    assert (
        odd.keep(odd.run_record(500, (0.02, 0.02, 0.96), sure=np.full(10, 0.1)), told).warned_of
        == []
    )
    notes = odd.keep(odd.run_record(500), Tally(labels=told.labels)).drift.notes
    assert "the model's bundle does not say how sure it was on validation" in notes
