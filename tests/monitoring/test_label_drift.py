"""Drift of files with several labels: a test for each label, whose shares do not add to 1."""

from collections import Counter

import numpy as np
import pytest
from several_labels import write_pairs

import visionflows as vf
from visionflows.label_sets import join_labels
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.monitoring.drift import detect_drift, read_validation_baseline
from visionflows.monitoring.run_records import (
    Histograms,
    RecordedModel,
    RunRecord,
    read_run_records,
)
from visionflows.reports.history import share_measures
from visionflows.reports.scoring import count_several
from visionflows.storage import open_storage

pytest_plugins = ["several_labels"]
NAMES = ["cat", "dog", "sofa"]
SHARES = (0.5, 0.3, 0.2)


def record(rng, at: int, shares=SHARES, files: int = 500) -> RunRecord:
    """A run over files whose labels come together: a cat is often on a sofa."""
    draws = rng.random((files, 3))
    draws[:, 2] = np.where(
        rng.random(files) < 0.5, draws[:, 0] * shares[2] / shares[0], draws[:, 2]
    )
    has = draws < shares
    labels = Counter(join_labels(np.array(NAMES)[row]) for row in has)
    model = {"name": "pets", "version": "1", "digest": "d", "storage": "s", "multi_label": True}
    return RunRecord(
        schema_version=1,
        **{"started": f"2026-01-01T00:00:00.{at:03d}+00:00", "ended": "", "input": "in"},
        **{"contents": "0" * 64, "runs": [], "seconds": 1.0, "status": "done", "settings": []},
        model=RecordedModel(**model),
        histograms=Histograms(statuses={"ok": files}, labels=dict(labels)),
    )


def kept(rng, runs: int) -> list[RunRecord]:
    found: list[RunRecord] = []
    for at in range(runs):
        one = record(rng, at, files=int(rng.integers(200, 1000)))
        found.append(one.model_copy(update={"drift": detect_drift(one, found)}))
    return found


def test_ordinary_runs_rarely_warn():
    records = [one for seed in range(8) for one in kept(np.random.default_rng(seed), 50)]
    assert sum(bool(one.drifted) for one in records) <= 4  # of 400; alpha is 1 in 400


def test_a_label_that_becomes_frequent_is_named():
    rng = np.random.default_rng(9)
    records = kept(rng, 10)
    drift = detect_drift(record(rng, 11, (0.5, 0.5, 0.2)), records)
    finding = drift.finding("labels")
    assert finding.warns
    assert finding.effect == pytest.approx(0.2, abs=0.07)
    assert "labels: dog " in finding.description
    unchanged = detect_drift(record(rng, 12), records).finding("labels")
    assert not unchanged.warns


def test_the_history_draws_the_share_of_each_label():
    records = kept(np.random.default_rng(3), 3)
    measures = share_measures(records)
    assert {one.title for one in measures} == {*NAMES}
    values = {one.title: one.value(records[0]) for one in measures}
    assert values == pytest.approx({"cat": 0.5, "dog": 0.3, "sofa": 0.35}, abs=0.1)


def test_counts_of_several_labels():
    found = count_several({"cat;sofa": 5, "cat": 2, "": 1, "cat;dog;sofa": 1})
    assert found.by_label == {"cat": 8, "sofa": 6, "dog": 1}
    assert found.by_number == {0: 1, 1: 2, 2: 5, 3: 1}
    assert found.together == [("cat", "sofa", 6), ("cat", "dog", 1), ("dog", "sofa", 1)]


def test_a_run_has_the_shares_in_its_report_and_history(pairs_model, tmp_path):
    write_pairs(tmp_path / "in", each=2, first_seed=40)
    found = vf.score(tmp_path / "in/images", "pairs", tmp_path / "out", store=pairs_model.store)
    page = (tmp_path / "out/report.html").read_text()
    for text in ("Labels per file", "Labels together", "the shares of labels do not add to 100"):
        assert text in page
    (recorded,) = read_run_records(open_storage(tmp_path / "out"))
    assert recorded.model.multi_label
    assert sum(recorded.histograms.labels.values()) == found.counts.ok == 32
    assert "" in recorded.histograms.labels
    assert recorded.drift.finding("labels", "validation") is not None
    model = load_model(find_model("pairs", pairs_model.store))
    assert read_validation_baseline(model).labels
