"""The run history in a real browser: on a phone, light and dark, with many runs."""

import datetime

import pytest
from history_records import run_record

from visionflows.monitoring.drift import detect_drift
from visionflows.monitoring.run_records import Audit
from visionflows.reports.history import render_history

pytest_plugins = ["e2e_fixtures"]
LONG = "a-class-whose-name-is-longer-than-any-phone-is-wide-" * 3


@pytest.fixture
def address(tmp_path) -> str:
    """The URL of a page of 60 runs with long names, the last with a drift warning."""
    found = []
    begin = datetime.datetime(2026, 1, 1, 2, tzinfo=datetime.UTC)
    for number in range(60):
        labels = {LONG: 300 + number, "dog": 300} if number < 59 else {LONG: 30, "dog": 600}
        audit = Audit(accuracy=0.95, low=0.9, high=0.98, images=100) if number % 7 == 0 else None
        one = run_record(1, labels, "v" * 100 if number > 20 else "1", audit=audit)
        when = (begin + datetime.timedelta(days=number)).isoformat(timespec="milliseconds")
        one = one.model_copy(update={"started": when})
        found.append(one.model_copy(update={"drift": detect_drift(one, found)}))
    assert found[-1].drifted == ["labels"]
    (tmp_path / "history.html").write_text(render_history(f"s3://{LONG}", found))
    return f"file://{tmp_path}/history.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(page, address, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    for width in (390, 1200):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(address)
        page.click("summary")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(page)
        assert not found.violations_count, found.generate_report()
        sizes = page.eval_on_selector_all("svg", "all => all.map(one => one.clientWidth)")
        assert min(sizes) >= 280  # at which the text of a chart is as large as it is drawn


def test_a_screen_reader_finds_charts_and_the_table(page, address):
    page.goto(address)
    assert page.eval_on_selector_all("svg", "all => all.every(one => one.ariaLabel)")
    assert page.locator("svg[role=img]").count() == 7
    page.focus("summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "Figures of each run"
    assert page.locator("tbody tr").count() == 120  # figures and label shares
