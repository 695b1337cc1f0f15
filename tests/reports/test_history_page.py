"""The run history: charts, their descriptions, tables, and a page of few runs."""

import re

import pytest
from history_records import run_record
from test_reports import Checked

from visionflows.monitoring.drift import detect_drift
from visionflows.monitoring.run_records import Audit, Histograms, RunRecord
from visionflows.reports.history import (
    LABELS,
    MEASURES,
    OTHERS,
    draw_chart,
    measure_share,
    render_history,
)

EVIL = "<script>alert(1)</script>"
AUDIT = Audit(accuracy=0.95, low=0.91, high=0.98, images=200)


@pytest.fixture
def records() -> list[RunRecord]:
    """Twelve runs, the last with drift; a new model version from the fourth on; three audits."""
    found: list[RunRecord] = []
    for day in range(1, 13):
        labels = {EVIL: 300, "dog": 290 + day} if day < 12 else {EVIL: 30, "dog": 570}
        more = {"audit": AUDIT} if day in (5, 6, 7) else {}
        one = run_record(day, labels, "1" if day < 4 else "2", **more)
        found.append(one.model_copy(update={"drift": detect_drift(one, found)}))
    return found


def test_the_page_shows_the_runs_and_their_drift_warnings(records):
    page = render_history("scores/<night>", records)
    seen = Checked(page)
    assert {*seen.loaded} == {
        *("report.html", "review.html", "predictions.csv"),
        "../../store/models/pets/1/report.html",
    }
    assert EVIL not in page
    text = " ".join(" ".join(seen.text).split())
    assert "12 runs, drift in 1" in text
    assert records[-1].drift.warnings[0] in text
    assert "since 1 Jan 2026 pets@1 since 4 Jan 2026 pets@2" in text
    charts = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', page)
    assert len(charts) == page.count("<svg") == 7
    assert charts[0] == (
        "Files of 12 runs: lowest 596 on 1 Jan 2026, highest 606 on 11 Jan 2026, last 605"
    )
    assert charts[1].startswith("Failures of 12 runs: lowest 0.8 %")
    assert "Audited accuracy of 3 runs: lowest 95 % on 5 Jan 2026" in charts[4]
    assert (
        "lowest 49.2 % on 1 Jan 2026, highest 95 % on 12 Jan 2026, last 95 %; "
        "drift warnings in 1 run" in charts[5]
    )


def test_a_failed_run_links_to_its_pages(records):
    failed = records[-1].model_copy(update={"status": "failed"})
    links = Checked(render_history("out", [*records[:-1], failed])).loaded
    assert {"failed/report.html", "failed/review.html", "failed/predictions.csv"} <= {*links}
    links = Checked(render_history("out", [failed])).loaded  # without a result
    assert {"report.html", "review.html", "predictions.csv"} <= {*links}
    links = Checked(render_history("out", records, is_output=False)).loaded
    assert {*links} == {"../store/models/pets/1/report.html"}


def test_each_run_is_at_its_position(records):
    page = render_history("scores/night", records)
    assert page.count('class="warned"') == 2  # the shares of both labels, in one run
    assert page.count('class="dash"') == 7  # one for each chart
    assert page.count('class="interval"') == 3
    files = page[page.index("Files of 12") :]
    path = re.search(r'<path class="line line-1" d="M52 [0-9.]+((?:L[0-9.]+ [0-9.]+)+)"/>', files)
    assert path[1].count("L") == 11
    figures, shares = page.split("<table>")[1:]
    for table in (figures, shares):
        assert table.count('<th scope="row">') == 12
        assert table.index("2026-01-12 02:00") < table.index("2026-01-01 02:00")
        assert "<td>labels</td>" in table


def test_only_the_chart_of_the_audits_has_their_intervals():
    """Also if another value of the run is the same number."""
    audit = Audit(accuracy=1.0, low=0.91, high=1.0, images=40)
    runs = [run_record(day, {"dog": 300}, audit=audit) for day in (1, 2, 3)]
    assert render_history("out", runs).count('class="interval"') == 3
    charts = [draw_chart(one, runs) for one in (*MEASURES, measure_share("dog", ["dog"]))]
    assert [len(chart.intervals) for chart in charts] == [0] * 4 + [3, 0]


@pytest.mark.parametrize("runs", [1, 2])
def test_few_runs_are_a_table_and_no_chart(runs):
    page = render_history("out", [run_record(1 + day, {"dog": 300}) for day in range(runs)])
    assert "<svg" not in page
    assert page.count('<th scope="row">') == 2 * runs
    assert f"<h1>{runs} run{'s' * (runs > 1)}, no drift</h1>" in page
    assert f"<summary>{runs} run{'s' * (runs > 1)}</summary>" in page


def test_the_most_frequent_labels_have_a_chart_each_and_the_others_one():
    many = {f"class {number:03d}": 1000 - number for number in range(50)}
    page = render_history("out", [run_record(day, many) for day in (1, 2, 3)])
    assert page.count("<svg") == 4 + LABELS + 1
    shares = [
        float(share)
        for share in re.findall(r"<b>(?:class \d+|other labels)</b> <span>last ([\d.]+)", page)
    ]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert f"<b>{OTHERS}</b>" in page
    assert "class 008" not in page


def test_a_run_without_a_label_breaks_the_line():
    nothing = run_record(2, {"a": 50}).model_copy(
        update={"histograms": Histograms(statuses={"unreadable": 30})}
    )
    labelled = [run_record(day, {"a": 50 + day}) for day in (1, 3, 4)]
    page = render_history("out", [labelled[0], nothing, *labelled[1:]])
    assert re.search(r'd="M52 [0-9.]+M225.3 [0-9.]+L312 [0-9.]+"', page)
    assert "–" in page


def test_without_runs_the_page_has_a_sentence():
    assert "No run is recorded yet" in render_history("out", [])


def test_four_hundred_runs_are_a_small_page():
    records = [run_record(1 + number % 28, {"a": 300 + number, "b": 300}) for number in range(400)]
    assert len(render_history("out", records)) < 400_000
