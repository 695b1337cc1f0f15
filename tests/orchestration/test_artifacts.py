"""Untrusted text in Prefect artifacts stays text; links into the store."""

import html
import re

import pytest
from markdown_it import MarkdownIt

from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.orchestration import artifacts

LIVE = (
    "<img src=x onerror=alert(1)>",
    "[a link](https://elsewhere.example)",
    "![a picture](https://elsewhere.example/x.png)",
    "https://elsewhere.example/?a=b",
    "www.elsewhere.example",
    "me@elsewhere.example",
    "<https://elsewhere.example>",
    "**bold** _italic_ ~~struck~~ `code`",
    "a | b \\| c",
    "two\nlines\n\n# and a heading",
    "&lt;b&gt; &#60;",
    "\\",
    "$x^2$ :smile: #1 @someone",
)


def shown(markdown: str) -> tuple[str, str]:
    """The HTML that CommonMark with tables and bare links renders, and its text."""
    made = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown)
    return made, html.unescape(re.sub(r"<[^>]+>", "", made))


@pytest.mark.parametrize("text", LIVE)
def test_a_label_has_no_effect_in_markdown(text):
    markdown = "\n".join(artifacts._table(("label", "files"), [(text, 3), ("cat", 4)]))
    page, rendered = shown(markdown)
    assert set(re.findall(r"<(\w+)", page)) <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert " ".join(text.split()) in " ".join(rendered.split())
    assert page.count("<tr>") == 3  # the header and two rows: no cell adds another
    assert not re.search(r"https?://|www\.\w|\w@\w", markdown)  # creates no bare link


@pytest.mark.parametrize("text", [*LIVE, "`", "``a`` b", "`<img src=x>`"])
def test_a_path_has_no_effect_in_markdown(text):
    page, rendered = shown(f"- {artifacts._link(text, 'report.html')}")
    assert set(re.findall(r"<(\w+)", page)) <= {"ul", "li", "code"}
    assert " ".join(text.split()) in " ".join(rendered.split())


def test_a_file_in_a_served_store_is_linked(monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_STORE", "/data/store")
    monkeypatch.setenv("VISIONFLOWS_STORE_URL", "https://files.example/store")
    page, _ = shown(artifacts._link("/data/store/scores/a (1) <b>&[x]", "report.html"))
    (target,) = re.findall(r'href="([^"]+)"', page)
    assert (
        target == "https://files.example/store/scores/a%20%281%29%20%3Cb%3E%26%5Bx%5D/report.html"
    )


def test_the_training_summary_has_the_confusion_matrix(trained):
    info = load_model(find_model("shapes", trained.store)).info
    assert "Confusion" not in artifacts._describe_training(info, trained.storage)  # a separate file
    metrics = info.metrics.model_copy(update={"confusion": ((6, 1, 0), (0, 5, 0), (0, 0, 6))})
    matrix = {"metrics": metrics, "classes": ["a|b", "<i>", "c"]}
    summary = artifacts._describe_training(info.model_copy(update=matrix), trained.storage)
    page, text = shown(summary)
    assert page.count("<tr>") == 4
    assert "<i>" not in page
    assert " ".join(text.split()).endswith(
        "actual / predicted a|b <i> c a|b 6 1 0 <i> 0 5 0 c 0 0 6"
    )
