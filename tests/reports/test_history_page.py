"""The page of all nights: what it says, in pictures and in words, and to whom nothing is shown."""

import re

import pytest
from history_records import run_record
from test_reports import Checked

from visionflows.monitoring.drift import judged
from visionflows.monitoring.run_records import Audit, RunRecord, Tally
from visionflows.reports.run_history import (
    CLASSES,
    MEASURES,
    OTHERS,
    chart,
    history_report,
    share_of,
)

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def run_records() -> list[RunRecord]:
    """Twelve nights, the last of which warns; from the fourth on of another model version."""
    found: list[RunRecord] = []
    audit = Audit(accuracy=0.95, low=0.91, high=0.98, images=200)
    for day in range(1, 13):
        labels = {EVIL: 300, "dog": 290 + day} if day < 12 else {EVIL: 30, "dog": 570}
        more = {"audit": audit} if day == 5 else {}
        one = run_record(day, labels, "1" if day < 4 else "2", **more)
        found.append(one.model_copy(update={"drift": judged(one, found)}))
    return found


def test_it_says_what_the_nights_were_and_what_warned(run_records):
    page = history_report("scores/<night>", run_records)
    seen = Checked(page)
    assert seen.loaded == []
    assert EVIL not in page
    text = " ".join(" ".join(seen.text).split())
    assert "12 nights, one warned" in text
    assert run_records[-1].drift.warnings[0] in text
    assert "since 1 Jan 2026 pets@1 since 4 Jan 2026 pets@2" in text
    charts = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', page)
    assert len(charts) == page.count("<svg") == 7
    assert charts[0] == (
        "Files of 12 nights: lowest 596 on 1 Jan 2026, highest 606 on 11 Jan 2026, last 605"
    )
    assert charts[1].startswith("Failures of 12 nights: lowest 0.8 %")
    assert "Accuracy found by people of 1 night: lowest 95 % on 5 Jan 2026" in charts[4]
    assert (
        "lowest 49.2 % on 1 Jan 2026, highest 95 % on 12 Jan 2026, last 95 %; 1 warned"
        in (charts[5])
    )


def test_each_night_is_marked_where_it_is(run_records):
    page = history_report("scores/night", run_records)
    assert page.count('class="warned"') == 2  # the shares of both labels, on one night
    assert page.count('class="version"') == 7  # in each chart
    assert page.count('class="interval"') == 1
    files = page[page.index("Files of 12") :]
    path = re.search(r'<path class="line" d="M52 [0-9.]+((?:L[0-9.]+ [0-9.]+)+)"/>', files)
    assert path[1].count("L") == 11
    table = page[page.index("<table>") :]
    assert table.count('<th scope="row">') == 12
    assert table.index("2026-01-12 02:00") < table.index("2026-01-01 02:00")
    assert "<td>labels</td>" in table


def test_an_interval_stands_on_the_chart_of_what_people_found_alone():
    """Whatever else of that night happens to be the same number."""
    audit = Audit(accuracy=1.0, low=0.91, high=1.0, images=40)
    one = run_record(1, {"dog": 300}, audit=audit)
    page = history_report("out", [one])
    assert page.count('class="interval"') == 1
    charts = [chart(measure, [one]) for measure in (*MEASURES, share_of("dog", ["dog"]))]
    assert [bool(found and found.intervals) for found in charts] == [False] * 4 + [True, False]


def test_the_largest_labels_have_a_chart_and_the_rest_have_one_together():
    many = {f"class {number:03d}": 1000 - number for number in range(50)}
    page = history_report("out", [run_record(1, many), run_record(2, many)])
    assert page.count("<svg") == 4 + CLASSES + 1
    shares = [
        float(s) for s in re.findall(r"<b>(?:class \d+|other labels)</b> <span>([\d.]+)", page)
    ]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert f"<b>{OTHERS}</b>" in page
    assert "class 008" not in page


def test_a_night_without_a_label_breaks_the_line():
    nothing = run_record(2, {"a": 50}).model_copy(
        update={"tally": Tally(statuses={"unreadable": 30})}
    )
    page = history_report("out", [run_record(1, {"a": 50}), nothing, run_record(3, {"a": 60})])
    assert re.search(r'd="M52 [0-9.]+M312 [0-9.]+"', page)
    assert "–" in page


def test_no_night_at_all_is_said():
    assert "No night has been recorded yet" in history_report("out", [])


def test_four_hundred_nights_are_a_small_page():
    run_records = [
        run_record(1 + number % 28, {"a": 300 + number, "b": 300}) for number in range(400)
    ]
    assert len(history_report("out", run_records)) < 400_000
