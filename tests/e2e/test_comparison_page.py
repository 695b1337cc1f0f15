"""The comparison page in a real browser, by keyboard only and for a screen reader."""

import itertools
import json

import pytest
from page_cases import comparison

pytest_plugins = ["e2e_fixtures"]


@pytest.fixture
def address(trained, tmp_path) -> str:
    """The URL of a page with much content and long names."""
    (tmp_path / "compare.html").write_text(comparison(trained, tmp_path))
    return f"file://{tmp_path}/compare.html"


def test_a_keyboard_reaches_every_part(page, address):
    page.goto(address)
    reached = []
    for _ in range(32):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "(({tagName, hash, ariaLabel}) => [tagName, hash, ariaLabel])(document.activeElement)"
        )
        reached.append(json.dumps(focused))
    links = page.eval_on_selector_all(
        "nav[aria-label='On this page'] a", "all => all.map(one => one.hash)"
    )
    assert {json.dumps(["A", link, None]) for link in links} <= set(reached)
    for name in ("Correct and wrong images", "Label changes", "Accuracy by class"):
        assert json.dumps(["DIV", None, name]) in reached
    page.focus("nav a[href='#classes']")
    page.keyboard.press("Enter")
    assert page.evaluate("scrollY") > 500


def test_a_screen_reader_finds_headings_pictures_and_tables(page, address):
    page.goto(address)
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.eval_on_selector_all("img", "all => all.every(one => one.alt)")
    assert page.eval_on_selector_all("table", "all => all.every(one => one.caption)")
    assert page.eval_on_selector_all("th", "all => all.every(one => one.scope)")
    assert page.locator("main").count() == 1
    assert page.locator("html[lang=en]").count() == 1
