"""Every page in a real browser: on a desk and on a phone, by day and night, printed, by keyboard.

What axe-core (https://github.com/dequelabs/axe-core) finds is contrast, headings, landmarks,
tables, alternative texts and what a keyboard cannot reach, by WCAG 2.2 AA and its best practices.
"""

import pytest
from page_cases import CASES

pytest_plugins = ["e2e_fixtures"]
WIDTHS = (1200, 390)  # a desk, a phone
HEAVIEST = 3_000_000  # bytes of a page


@pytest.fixture(scope="session")
def addresses(trained, tmp_path_factory) -> dict[str, str]:
    """The URL of every page, by the name of its template."""
    folder = tmp_path_factory.mktemp("pages")
    for name, case in CASES.items():
        (folder / name).write_text(case(trained, tmp_path_factory.mktemp("case")))
        assert (folder / name).stat().st_size < HEAVIEST
    return {name: f"file://{folder / name}" for name in CASES}


@pytest.fixture
def watched(page):
    """The page of the browser, which must not complain of anything."""
    complaints: list[str] = []
    page.on("console", lambda told: complaints.append(f"{told.type}: {told.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: complaints.append(sent.url) if "http" in sent.url[:4] else None)
    yield page
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", CASES)
def test_everyone_can_read_it(watched, addresses, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    watched.emulate_media(color_scheme=scheme)
    for width in WIDTHS:
        watched.set_viewport_size({"width": width, "height": 844})
        watched.goto(addresses[name])
        assert watched.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(watched)
        assert found.response["passes"]
        assert not found.violations_count, found.generate_report()
    assert (paper(watched) == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("name", CASES)
def test_a_keyboard_reaches_every_part_and_shows_where_it_is(watched, addresses, name):
    watched.set_viewport_size({"width": 390, "height": 844})
    watched.goto(addresses[name])
    wanted = watched.evaluate(
        "[...document.querySelectorAll("
        "'a[href], button:enabled, select, input, summary, .scroll, pre')]"
        ".filter(one => one.checkVisibility()).map((one, at) => one.dataset.nth = at).length"
    )
    reached = set()
    for _ in range(wanted + 1):
        watched.keyboard.press("Tab")
        at, outline = watched.evaluate(
            "(one => [one.dataset.nth, getComputedStyle(one).outlineStyle])(document.activeElement)"
        )
        assert at is None or outline == "solid"
        reached.add(at)
    assert {str(at) for at in range(wanted)} <= reached
    for link in watched.eval_on_selector_all("nav a", "all => all.map(one => one.hash)"):
        watched.goto(addresses[name])
        watched.press(f"nav a[href='{link}']", "Enter")
        top = watched.eval_on_selector(link, "one => one.getBoundingClientRect().top")
        assert top < 844


@pytest.mark.parametrize("name", CASES)
def test_it_prints_in_black_on_white_with_nothing_cut_off(watched, addresses, name):
    watched.emulate_media(color_scheme="dark", media="print")
    watched.goto(addresses[name])
    assert paper(watched) == "rgb(255, 255, 255)"
    assert not any(one.is_visible() for one in watched.locator("nav").all())
    assert watched.pdf(format="A4").startswith(b"%PDF")


def paper(page) -> str:
    """The colour behind everything."""
    return page.evaluate("getComputedStyle(document.body).backgroundColor")
