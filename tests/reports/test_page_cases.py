"""Every page has a case in CASES, which tests/e2e/test_pages.py opens in a real browser."""

import re
from pathlib import Path

from page_cases import CASES

REPORTS = Path(__file__).parents[2] / "visionflows" / "reports"


def pages(folder: Path) -> set[str]:
    """The templates that are pages: those that extend page.html."""
    extends = re.compile(r'{%-?\s*extends\s+"page\.html"')
    return {path.name for path in folder.glob("*.html") if extends.search(path.read_text())}


def template(name: str) -> str:
    """The template of a case: without what is before a hyphen."""
    return name.rpartition("-")[2]


def test_every_page_has_a_case():
    assert pages(REPORTS) == {template(name) for name in CASES}


def test_a_page_without_a_case_is_reported(tmp_path):
    (tmp_path / "new.html").write_text('{% extends "page.html" %}\n{% block body %}{% endblock %}')
    (tmp_path / "parts.html").write_text("{% macro part() %}{% endmacro %}")
    assert pages(tmp_path) == {"new.html"}


def test_every_section_can_be_linked_to():
    for name in CASES:
        text = (REPORTS / template(name)).read_text()
        assert re.findall("<h2", text) == re.findall('<h2(?= id="[^"]+")', text), name
