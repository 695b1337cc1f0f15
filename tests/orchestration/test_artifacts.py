"""Untrusted text in Prefect artifacts stays text; links into the store."""

import html
import re
from types import SimpleNamespace

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


@pytest.fixture
def created(monkeypatch):
    """The contents of the artifacts that are created, by their keys."""
    found = {}
    monkeypatch.setattr(
        artifacts, "_create", lambda kind, content, key, description: found.update({key: content})
    )
    return found


def run_with(label: str) -> SimpleNamespace:
    """As much of a RunResult as its summary shows, with files of this label."""
    counts = {"found": 8, "ok": 7, "rejected": 0, "failed": 1}
    tables = {"by_label": {label: 3, "cat": 4}, "by_status": {"ok": 7, "missing": 1}}
    timings = {"seconds": 1.0, "images_per_second": 8, "bottleneck": "decoding is the slowest"}
    return SimpleNamespace(
        **{"input": "in", "output": "out", "folder": "", "files": {"predictions.csv": None}},
        **{"device": "cpu", "backends": [], "drift": None},
        model=SimpleNamespace(name="pets", version="1"),
        counts=SimpleNamespace(**counts, **tables),
        timings=SimpleNamespace(**timings, seconds_per_1000={"read": 2.0}),
    )


@pytest.mark.parametrize("text", LIVE)
def test_a_label_has_no_effect_in_markdown(text, created):
    artifacts.create_score_summary(run_with(label=text))
    markdown = created["score-summary"]
    page, rendered = shown(markdown)
    tags = {"h2", "h3", "p", "ul", "li", "code", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(re.findall(r"<(\w+)", page)) <= tags
    assert f"{' '.join(text.split())} 3 cat 4 not scored" in " ".join(rendered.split())
    assert page.count("<tr>") == 7  # three tables with headers: no cell adds another
    markdown = markdown.replace("pets@1", "")
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


def test_the_training_summary_has_the_confusion_matrix(trained, created):
    info = load_model(find_model("shapes", trained.store)).info
    artifacts.create_training_summary(info, trained.storage)
    assert "Confusion" not in created["train-summary"]  # a separate file
    metrics = info.metrics.model_copy(
        update={"confusion": ((0, 0, 6), (0, 1, 1), (1, 1, 5), (2, 2, 6))}
    )
    matrix = {"metrics": metrics, "classes": ["a|b", "<i>", "c"]}
    artifacts.create_training_summary(info.model_copy(update=matrix), trained.storage)
    page, text = shown(created["train-summary"])
    assert page.count("<tr>") == 4
    assert "<i>" not in page
    assert " ".join(text.split()).endswith(
        "actual / predicted a|b <i> c a|b 6 1 0 <i> 0 5 0 c 0 0 6"
    )
