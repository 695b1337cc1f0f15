"""Every page in a real browser: wide and narrow, light and dark, printed, by keyboard.

axe-core (https://github.com/dequelabs/axe-core) checks contrast, headings, landmarks, tables,
alternative texts and keyboard access, by WCAG 2.2 AA and its best practices.
"""

import pytest
from page_cases import CASES

pytest_plugins = ["e2e_fixtures"]
WIDTHS = (1200, 390)  # a desk, a phone
MAX_BYTES = 3_000_000  # of a page


@pytest.fixture(scope="session")
def addresses(trained, tmp_path_factory) -> dict[str, str]:
    """The URL of every page, by the name of its template."""
    folder = tmp_path_factory.mktemp("pages")
    for name, case in CASES.items():
        (folder / name).write_text(case(trained, tmp_path_factory.mktemp("case")))
        assert (folder / name).stat().st_size < MAX_BYTES
    return {name: f"file://{folder / name}" for name in CASES}


@pytest.fixture
def watched(page):
    """The page of the browser: no message in its console, no error, and no network request."""
    messages: list[str] = []
    page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda sent: messages.append(sent.url) if "http" in sent.url[:4] else None)
    yield page
    assert messages == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", CASES)
def test_axe_finds_no_violation(watched, addresses, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    watched.emulate_media(color_scheme=scheme)
    for width in WIDTHS:
        watched.set_viewport_size({"width": width, "height": 844})
        watched.goto(addresses[name])
        assert watched.evaluate("document.documentElement.scrollWidth") <= width
        cut_off = watched.eval_on_selector_all(
            ".scroll", "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
        )
        assert width == 390 or cut_off == 0
        found = axe.run(watched)
        assert found.response["passes"]
        assert not found.violations_count, found.generate_report()
    assert (paper(watched) == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("name", CASES)
def test_a_keyboard_reaches_every_part_with_a_visible_focus(watched, addresses, name):
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
    sections = "nav[aria-label='On this page'] a"
    for link in watched.eval_on_selector_all(sections, "all => all.map(one => one.hash)"):
        watched.goto(addresses[name])
        watched.press(f"nav a[href='{link}']", "Enter")
        top = watched.eval_on_selector(link, "one => one.getBoundingClientRect().top")
        assert top < 844


@pytest.mark.parametrize("name", CASES)
def test_every_link_to_a_section_has_its_target(watched, addresses, name):
    watched.goto(addresses[name])
    missing = watched.eval_on_selector_all(
        "a[href^='#']", "all => all.map(one => one.hash).filter(to => !document.querySelector(to))"
    )
    assert missing == []


@pytest.mark.parametrize("name", CASES)
def test_pages_print_in_black_on_white_with_nothing_cut_off(watched, addresses, name):
    watched.emulate_media(color_scheme="dark", media="print")
    watched.goto(addresses[name])
    assert paper(watched) == "rgb(255, 255, 255)"
    assert not any(one.is_visible() for one in watched.locator("nav").all())
    assert watched.pdf(format="A4").startswith(b"%PDF")


def paper(page) -> str:
    """The background colour of the page."""
    return page.evaluate("getComputedStyle(document.body).backgroundColor")
