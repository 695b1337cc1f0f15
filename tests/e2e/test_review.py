"""The review page in a real browser: by keyboard and by touch, saved, and trained with."""

import csv
import dataclasses
import itertools
import re
from pathlib import Path

import pytest
from conftest import CLASSES, Trained, write_shapes
from playwright.sync_api import expect

from flows.train import train
from visionflows.escaping import escape_formula, unescape_formula
from visionflows.hashing import sha256_of
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.reports.review import build_review, render_review
from visionflows.review.corrections import read_corrections
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.review_results import add_corrections
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_storage
from visionflows.training.settings import TrainSettings

pytest_plugins = ["e2e_fixtures"]
MANY = [*CLASSES, *(f"breed-{number}-of-dogs" for number in range(40)), "a-long-name-" * 9]
TINY = TrainSettings(
    **{"architecture": "resnet18", "pretrained": "none", "image_size": 32}, epochs=1
)


@pytest.fixture(scope="module")
def output(trained: Trained, tmp_path_factory) -> Path:
    """The output of a run over 180 photos, with all sample groups except outliers."""
    root = tmp_path_factory.mktemp("review")
    write_shapes(root / "in", each=60, first_seed=900)
    score_folder(str(root / "in"), "shapes", str(root / "out"), trained.store)
    return root / "out"


@pytest.fixture
def open_review(page, output, tmp_path):
    """A function that opens the page of the same run for a model of other classes."""

    def open_page(classes: list[str], rename: str = ""):
        run = RunResult.read((output / "run.json").read_bytes())
        review = build_review(run, open_storage(run.root), open_storage(output))
        model = run.model.model_copy(update={"classes": classes})
        items = review.items
        if rename:
            first = dataclasses.replace(items[0], row=items[0].row._replace(path=rename))
            items = [first, *items[1:]]
        run = run.model_copy(update={"model": model})
        html = render_review(dataclasses.replace(review, run=run, items=items))
        (tmp_path / "other.html").write_text(html)
        page.goto(f"file://{tmp_path}/other.html")
        return page

    return open_page


@pytest.fixture
def many(open_review):
    """The page for a model with too many classes for a button each."""
    return open_review(MANY)


def shown(page) -> str:
    return page.locator("#path").inner_text()


def saved(page, folder: Path) -> tuple[Path, list[dict]]:
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "corrections.csv"
    download.value.save_as(folder / "corrections.csv")
    with (folder / "corrections.csv").open(newline="", encoding="utf-8") as file:
        return folder / "corrections.csv", list(csv.DictReader(file))


def test_corrections_by_keyboard_are_saved_and_used_in_training(review, output, tmp_path):
    keys = review.keyboard
    asked, were = [], []
    for key in ("Enter", "1", "2", "3", "0", "c"):
        asked.append(shown(review))
        were.append(review.locator("#prediction").inner_text())
        keys.press(key)
    assert len({*asked}) == 6
    skipped = shown(review)
    keys.press("ArrowRight")
    keys.press("0")
    keys.press("Backspace")
    keys.press("Enter")
    expected = [were[0].split()[1], *CLASSES, "", "circle"]
    path, rows = saved(review, tmp_path)
    by_path = {row["path"]: row for row in rows}
    assert len(rows) == 7
    assert skipped not in by_path
    assert [by_path[one]["label"] for one in asked] == expected
    for row in rows:
        assert row["sha256"] == sha256_of((output.parent / "in" / row["path"]).read_bytes())
        right = row["label"] == row["was"]
        assert row["answer"] == ("right" if right else "other" if row["label"] else "none")
    assert by_path[asked[4]]["answer"] == "none"
    assert len(read_corrections([str(path)])) == 7

    dataset = write_shapes(tmp_path / "shapes", each=8)
    store = str(tmp_path / "store")
    train(str(dataset), "shapes", settings=TINY, store=store, corrections=(str(path),))
    counts = load_model(find_model("shapes", store)).info.dataset.corrections
    assert (counts.taken, counts.imported, counts.lost) == (6, 6, 0)  # one has none of the classes


def test_a_key_that_is_held_answers_once(review):
    """Otherwise it would answer for images that were never shown."""
    for key in ("Enter", "1"):
        review.keyboard.down(key)
        for _ in range(3):
            review.keyboard.down(key)  # key repeat
        review.keyboard.up(key)
    expect(review.locator("#answered")).to_have_text("2")
    for _ in range(3):
        review.keyboard.down("ArrowRight")
    expect(review.locator("#answered")).to_have_text("2")


def test_answers_survive_a_reload(review):
    answered = expect(review.locator("#answered"))
    review.keyboard.press("0")
    answered.to_have_text("1")
    before = shown(review)
    review.reload()
    answered.to_have_text("1")
    assert shown(review) == before  # continues there
    assert review.locator("#save").inner_text() == "Save corrections.csv (1)"


def test_the_audit_is_estimated_live_and_shown_in_the_report(review, output, tmp_path):
    review.locator("section[aria-labelledby=audit] .begin").click()
    for _ in range(9):
        review.keyboard.press("Enter")
    review.keyboard.press("0")
    expect(review.locator("#audited")).to_have_text(
        "Audit: 10 of 100 reviewed, 9 correct: 95 % interval 59.6 % to 98.2 %."
    )
    path, _ = saved(review, tmp_path)
    (found,) = add_corrections(str(output), [str(path)])
    assert (found.right, found.reviewed, found.drawn) == (9, 10, 100)
    review.goto(f"file://{output}/report.html")
    assert "59.6 % to 98.2 %" in review.locator("main").inner_text()


def test_a_class_is_found_by_its_name(many):
    first = shown(many)
    many.keyboard.type("breed-17")
    expect(many.locator("#choices button")).to_have_text(["breed-17-of-dogs"])
    many.keyboard.press("Enter")
    assert shown(many) != first
    many.keyboard.press("ArrowLeft")
    expect(many.locator("#prediction")).to_contain_text("Your answer: breed-17-of-dogs")
    many.keyboard.type("zz")
    expect(many.locator("#more")).to_have_text("No class name contains this text.")
    many.keyboard.press("Escape")
    expect(many.locator("#choices button")).to_have_count(3)  # the most probable
    many.keyboard.press("2")
    many.keyboard.press("ArrowLeft")
    expect(many.locator("#choices [aria-pressed=true] kbd")).to_have_text("2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(many, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    many.emulate_media(color_scheme=scheme)
    many.keyboard.press("0")
    many.keyboard.type("a-long")
    for width in (390, 1200):
        many.set_viewport_size({"width": width, "height": 844})
        assert many.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.run(many)
        assert not found.violations_count, found.generate_report()
    many.set_viewport_size({"width": 390, "height": 844})
    small = many.eval_on_selector_all(
        ".answers button:not([hidden])", "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert min(small) >= 44  # a finger's width


def test_touch_and_screen_readers_work(review):
    review.locator("#choices button").nth(1).click()
    expect(review.locator("#answered")).to_have_text("1")
    assert review.evaluate("document.activeElement.id") == "photo"  # the heading of the next image
    announced = review.locator("#status").inner_text()
    assert announced.startswith(
        (f"Corrected: {CLASSES[1]}. Image 2", f"Confirmed: {CLASSES[1]}. Image 2")
    )
    review.locator(".thumbs button").nth(5).click()
    expect(review.locator("#photo")).to_contain_text("Image 6 of 160: least certain")
    expect(review.locator(".thumbs [aria-current=true]")).to_have_count(1)
    levels = review.eval_on_selector_all("h1, h2, h3", "all => all.map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert review.eval_on_selector_all("img", "all => all.every(one => one.alt)")
    review.uncheck("#keys")  # keys of one letter can be switched off
    before = shown(review)
    review.keyboard.press("0")
    assert shown(review) == before


def test_a_digit_selects_the_class_of_that_name(open_review):
    page = open_review([str(digit) for digit in range(10)])
    expect(page.locator("#choices kbd")).to_have_text([str(digit) for digit in range(10)])
    expect(page.locator("#none kbd")).to_have_text("-")
    paths = []
    for key in ("3", "0", "-"):
        paths.append(shown(page))
        page.keyboard.press(key)
    for answer in ("none of these classes", "0", "3"):
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#prediction")).to_have_text(re.compile(rf"Your answer: {answer}\.$"))
    assert shown(page) == paths[0]


def test_a_digit_that_names_no_class_answers_nothing(open_review):
    page = open_review(["7", "cat"])
    page.keyboard.press("1")
    expect(page.locator("#answered")).to_have_text("0")
    page.keyboard.press("7")
    expect(page.locator("#answered")).to_have_text("1")


@pytest.mark.parametrize("name", ["__proto__", '=HYPERLINK("x");-1.png', "' =1.png"])
def test_any_file_name_can_be_answered(open_review, tmp_path, name):
    page = open_review([*CLASSES], rename=name)
    assert shown(page) == name
    page.keyboard.press("1")
    expect(page.locator("#answered")).to_have_text("1")
    page.reload()
    expect(page.locator("#answered")).to_have_text("1")
    _, rows = saved(page, tmp_path)
    assert [(row["path"], row["label"]) for row in rows] == [(escape_formula(name), CLASSES[0])]
    assert unescape_formula(rows[0]["path"]) == name


def test_progress_is_shown(review):
    assert review.locator("#progress").get_attribute("max") == "160"
    review.click("#confirm")
    review.keyboard.press("1")
    expect(review.locator("#answered")).to_have_text("2")
    assert review.evaluate("document.getElementById('progress').value") == 2
    assert review.locator("button.primary").count() == 1
    keys = review.locator(".answers > button kbd, .moves kbd").all_inner_texts()
    assert keys == ["Enter", "0", "←", "→", "⌫"]


@pytest.mark.parametrize("enlarge", ["click", "Enter", "Space"])
def test_a_photo_is_enlarged_until_escape(review, enlarge):
    before = shown(review)
    if enlarge == "click":
        review.click("#enlarge")
    else:
        review.focus("#enlarge" if enlarge == "Enter" else "#photo")
        review.keyboard.press(enlarge)
    expect(review.locator("#large")).to_be_visible()
    width = review.eval_on_selector("#large-picture", "one => one.clientWidth")
    assert width > review.eval_on_selector("#picture", "one => one.clientWidth")
    review.keyboard.press("1")  # answers nothing meanwhile
    review.keyboard.press("Escape")
    expect(review.locator("#large")).to_be_hidden()
    expect(review.locator("#answered")).to_have_text("0")
    assert shown(review) == before


def test_unsaved_answers_are_not_closed_without_a_warning(review, tmp_path):
    warnings = []

    def stay(dialog):
        warnings.append(dialog.type)
        dialog.dismiss()

    review.on("dialog", stay)
    review.click("#confirm")
    with pytest.raises(Exception, match="ERR_ABORTED"):
        review.goto("about:blank")
    assert warnings == ["beforeunload"]
    expect(review.locator("#answered")).to_have_text("1")
    saved(review, tmp_path)
    review.goto("about:blank")
    assert warnings == ["beforeunload"]
