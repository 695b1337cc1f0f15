"""The review page of several labels in a real browser: toggles by key, click and search."""

import csv
import dataclasses

import pytest
from playwright.sync_api import expect
from several_labels import write_pairs

import visionflows as vf
from visionflows.reports.review import build_review, render_review
from visionflows.review.corrections import read_corrections
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_storage

pytest_plugins = ["e2e_fixtures", "several_labels"]
CLASSES = ["circle", "square", "stripes"]


@pytest.fixture(scope="module")
def output(pairs_model, tmp_path_factory):
    """The output of a run over 48 photos."""
    root = tmp_path_factory.mktemp("label_review")
    write_pairs(root / "in", each=3, first_seed=900)
    vf.score(root / "in/images", "pairs", root / "out", store=pairs_model.store)
    return root / "out"


def shown(page) -> str:
    return page.locator("#path").inner_text()


def pressed(page) -> list[str]:
    texts = page.locator("#choices [aria-pressed=true]").all_inner_texts()
    return [text.split()[-1].lstrip("0123456789") for text in texts]


def test_labels_are_toggled_and_saved(review, output, tmp_path):
    with (output / "predictions.csv").open(encoding="utf-8", newline="") as file:
        was = {row["path"]: row["label"] for row in csv.DictReader(file)}
    first, expected = shown(review), {}
    assert pressed(review) == [*filter(None, was[first].split(";"))]
    expected[first] = (was[first], "right" if was[first] else "empty")
    review.keyboard.press("Enter")

    second = shown(review)
    assert second != first
    review.keyboard.press("1")  # a key and a click toggle, and nothing is answered yet
    review.locator("#choices button").nth(2).click()
    expect(review.locator("#answered")).to_have_text("1")
    labels = ";".join(sorted({*filter(None, was[second].split(";"))} ^ {"circle", "stripes"}))
    assert pressed(review) == [*filter(None, labels.split(";"))]
    review.keyboard.press("Enter")
    expected[second] = (labels, "other" if labels else "empty")

    third = shown(review)
    review.keyboard.press("0")
    expected[third] = ("", "empty")
    expect(review.locator("#answered")).to_have_text("3")
    review.reload()  # answers are kept, and shown pressed
    review.keyboard.press("ArrowLeft")
    review.keyboard.press("ArrowLeft")
    assert (shown(review), pressed(review)) == (second, [*filter(None, labels.split(";"))])
    with review.expect_download() as download:
        review.click("#save")
    download.value.save_as(tmp_path / "corrections.csv")
    found = read_corrections([str(tmp_path / "corrections.csv")])
    assert {row.path: (row.label, row.answer) for row in found} == expected
    assert {row.decisions for row in found} == {3}
    assert all(row.was == was[row.path] for row in found)


def test_of_many_classes_a_search_toggles(page, output, tmp_path):
    run = RunResult.read((output / "run.json").read_bytes())
    review = build_review(run, open_storage(run.root), open_storage(output))
    many = [*CLASSES, *(f"thing-{number}" for number in range(40))]
    run = run.model_copy(update={"model": run.model.model_copy(update={"classes": many})})
    (tmp_path / "many.html").write_text(render_review(dataclasses.replace(review, run=run)))
    page.goto(f"file://{tmp_path}/many.html")
    first, before = shown(page), pressed(page)
    page.keyboard.type("thing-17")
    page.keyboard.press("Enter")
    expect(page.locator("#query")).to_have_value("")
    expect(page.locator("#choices [aria-pressed=true]")).to_have_count(len(before) + 1)
    assert shown(page) == first
    assert pressed(page) == [*before, "thing-17"]
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    answer = ", ".join([*sorted(before), "thing-17"])  # as the classes are sorted
    expect(page.locator("#prediction")).to_contain_text(f"Your answer: {answer}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_passes_axe(review, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    review.emulate_media(color_scheme=scheme)
    review.keyboard.press("1")
    for width in (390, 1200):
        review.set_viewport_size({"width": width, "height": 844})
        assert review.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(review)
        assert not found.violations_count, found.generate_report()
