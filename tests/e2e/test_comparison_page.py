"""The page of a comparison in a real browser: on a phone, by day and night, by keyboard alone."""

import itertools
import json
from pathlib import Path

import pytest
from conftest import CLASSES, Trained, write_shapes

from visionflows.model.schema import ModelInfo
from visionflows.places import place
from visionflows.reports.comparison import ClassCounts, Comparison, Flip, comparison_report

pytest_plugins = ["e2e_fixtures"]
LONG = "a-class-whose-name-is-longer-than-any-phone-is-wide-" * 3

# The contrast of each text with what is behind it, as WCAG counts it, and the text.
CONTRASTS = """() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(value => value / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, value, at) => sum + value * [.2126, .7152, .0722][at], 0);
  const behind = node => {
    const [r, g, b, a = 1] = parts(getComputedStyle(node).backgroundColor);
    return a ? [r, g, b] : behind(node.parentElement);
  };
  return [...document.querySelectorAll("main *")]
    .filter(node => [...node.childNodes].some(one => one.nodeType == 3 && one.data.trim()))
    .map(node => {
      const both = [light(parts(getComputedStyle(node).color)), light(behind(node))];
      const contrast = (Math.max(...both) + .05) / (Math.min(...both) + .05);
      return [contrast, node.textContent.trim().slice(0, 40)];
    });
}"""


@pytest.fixture
def address(trained: Trained, tmp_path) -> str:
    """The URL of a page that says much, under long names."""
    info = ModelInfo.read((Path(trained.place) / "model.json").read_bytes())
    info = info.model_copy(update={"version": "v" * 100})
    folder = write_shapes(tmp_path / "in", each=4)
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    flips = [Flip(path, LONG, LONG, 0.99, CLASSES[0], 0.5) for path in paths]
    flips += [Flip(path, CLASSES[1], LONG, 0.99, CLASSES[2], 0.5) for path in paths]
    flips += [Flip(path, CLASSES[1], LONG, 0.99, CLASSES[1], 0.5) for path in paths]
    told = Comparison(
        **{"a": info, "b": info, "images": 900, "a_errors": 24, "b_errors": 24},
        **{"both_wrong_alike": 3, "p_value": 0.5, "p_value_of_b": 0.6, "alpha": 0.05, "better": ""},
        **{"not_compared": 4, "gone": 1, "only_a_knows": [LONG], "only_b_knows": []},
        classes=[ClassCounts(name, 300, 290, 280, 12, 2) for name in (LONG, *CLASSES)],
        flips=flips,
    )
    (tmp_path / "compare.html").write_text(comparison_report(told, place(folder)))
    return f"file://{tmp_path}/compare.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_by_day_and_night(page, address, scheme):
    page.emulate_media(color_scheme=scheme)
    for width in (390, 1200):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 50
        assert min(contrasts)[0] >= 4.5, min(contrasts)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_keyboard_reaches_every_part(page, address):
    page.goto(address)
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        told = page.evaluate(
            "(({tagName, hash, ariaLabel}) => [tagName, hash, ariaLabel])(document.activeElement)"
        )
        reached.append(json.dumps(told))
    links = page.eval_on_selector_all("nav a", "all => all.map(one => one.hash)")
    assert {json.dumps(["A", link, None]) for link in links} <= set(reached)
    for name in ("Images by who has them right", "Labels that differ", "Figures of each class"):
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
