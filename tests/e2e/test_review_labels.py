"""The review page of a model that gives several labels a photo, in a real browser."""

import csv
from pathlib import Path

import pytest
from playwright.sync_api import expect
from several_labels import write_pairs

import visionflows as vf
from visionflows.label_sets import split_labels
from visionflows.review.corrections import read_corrections
from visionflows.scoring.review_results import add_corrections

pytest_plugins = ["e2e_fixtures"]


@pytest.fixture(scope="module")
def output(pairs_model, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("review")
    write_pairs(root / "in", each=4, first_seed=900)
    vf.score(root / "in" / "images", "pairs", root / "out", store=pairs_model.store)
    return root / "out"


@pytest.fixture
def review(page, output):
    """The page in a browser that logs no message and no error."""
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(f"file://{output}/review.html")
    yield page
    assert messages == []


def predicted(page) -> tuple[str, str]:
    """Path and predicted labels of the image that is shown, joined by semicolons."""
    words = page.locator("#prediction").inner_text()
    labels = words.partition("Predicted: ")[2].rpartition(" (")[0].replace(", ", ";")
    return page.locator("#path").inner_text(), "" if labels == "no label" else labels


def pressed(page) -> list[str]:
    return [
        button.get_attribute("data-name")
        for button in page.locator("#choices button[aria-pressed=true]").all()
    ]


def test_labels_are_switched_confirmed_and_saved(review, output, tmp_path):
    answers = {}
    path, labels = predicted(review)
    assert pressed(review) == [*split_labels(labels)]
    review.keyboard.press("Enter")  # as predicted
    answers[path] = (labels, "right" if labels else "empty")
    expect(review.locator("#answered")).to_have_text("1")

    path, labels = predicted(review)
    name = "square"
    review.locator("#choices button", has_text=name).click()
    expected = sorted({*split_labels(labels)} ^ {name})
    assert pressed(review) == expected
    expect(review.locator("#confirm")).to_contain_text(", ".join(expected) or "no label")
    review.keyboard.press("Enter")
    answers[path] = (";".join(expected), "other" if expected else "empty")
    expect(review.locator("#answered")).to_have_text("2")

    path, labels = predicted(review)
    for key in "1", "3":  # circle and stripes
        review.keyboard.press(key)
    expected = sorted({*split_labels(labels)} ^ {"circle", "stripes"})
    review.keyboard.press("Enter")
    answers[path] = (";".join(expected), "other" if expected else "empty")

    path, labels = predicted(review)
    review.keyboard.press("0")  # no label
    answers[path] = ("", "empty")
    expect(review.locator("#answered")).to_have_text("4")

    with review.expect_download() as download:
        review.locator("#save").click()
    download.value.save_as(tmp_path / "corrections.csv")
    with (tmp_path / "corrections.csv").open(encoding="utf-8", newline="") as file:
        saved = {row["path"]: (row["label"], row["answer"]) for row in csv.DictReader(file)}
    assert saved == answers
    assert {row.label for row in read_corrections([str(tmp_path / "corrections.csv")])} == {
        label for label, _ in answers.values()
    }


def test_answers_survive_a_reload_and_can_be_undone(review):
    _, labels = predicted(review)
    review.keyboard.press("1")
    review.keyboard.press("Enter")
    expect(review.locator("#answered")).to_have_text("1")
    review.reload()
    expect(review.locator("#answered")).to_have_text("1")
    review.keyboard.press("ArrowLeft")
    assert pressed(review) == sorted({*split_labels(labels)} ^ {"circle"})
    review.locator("#back").click()
    review.keyboard.press("ArrowRight")
    review.keyboard.press("2")
    review.keyboard.press("Enter")
    review.keyboard.press("Backspace")
    expect(review.locator("#answered")).to_have_text("1")


def test_the_audit_counts_images_with_all_their_labels(review, output, tmp_path):
    review.locator("section[aria-labelledby=audit] .begin").click()
    for _ in range(5):
        review.keyboard.press("Enter")
    review.keyboard.press("1")
    review.keyboard.press("Enter")
    expect(review.locator("#audited")).to_contain_text("6 of")
    expect(review.locator("#audited")).to_contain_text("5 correct")
    with review.expect_download() as download:
        review.locator("#save").click()
    download.value.save_as(tmp_path / "corrections.csv")
    (found,) = add_corrections(str(output), [str(tmp_path / "corrections.csv")])
    assert (found.right, found.reviewed) == (5, 6)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(review, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    review.emulate_media(color_scheme=scheme)
    review.keyboard.press("1")
    found = axe.run(review)
    assert found.violations_count == 0, found.generate_report()
