"""The review page is complete, escaped and self-contained, and saves what it shows."""

import base64
import csv
import io
import json
import re

import pytest
from conftest import encoded, picture, write_shapes
from test_reports import Checked

from visionflows.hashing import sha256_of
from visionflows.images.memory_limits import MAX_PIXELS, shared_memory_limits
from visionflows.reports.review import SIDE, build_review, render_review
from visionflows.reports.thumbnails import read_thumbnail
from visionflows.review.corrections import COLUMNS
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_storage


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("review")
    folder = write_shapes(root / "in", each=55, first_seed=300)
    (folder / "<script>alert(1)<").mkdir()
    (folder / "<script>alert(1)<" / "a.png").write_bytes(encoded(picture(1, (900, 500)), "PNG"))
    (folder / "broken.jpg").write_bytes(b"nothing")
    score_folder(str(folder), "shapes", str(root / "out"), trained.store)
    return folder, root / "out", RunResult.read((root / "out/run.json").read_bytes())


def script_data(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_a_run_leaves_one_file_that_escapes_every_name(scored):
    _, output, run = scored
    page = (output / "review.html").read_text()
    seen = Checked(page)
    links = {link for link in seen.loaded if not link.startswith("data:image/jpeg")}
    model = next(link for link in links if link.endswith(f"{run.model.version}/report.html"))
    assert links == {model, "report.html", "history.html", "predictions.csv", "failures.csv"}
    assert page.count("<script") == 2  # the data and the program
    assert "alert(1)" in page
    assert not re.search(r"https?://", page)
    data = script_data(page)
    assert data["classes"] == run.model.classes
    assert data["columns"] == [*COLUMNS]
    why = [row["why"] for row in data["rows"]]
    assert why == sorted(why, reverse=True)  # uncertain, then audit
    assert (why.count("uncertain"), why.count("audit")) == (60, 100)
    assert data["sampled"] == 100
    assert f"<code>{run.job}</code>" in page  # the seed


def test_saved_rows_have_the_digest_of_the_shown_image(scored):
    folder, output, run = scored
    review = build_review(run, open_storage(folder), open_storage(output))
    with (output / "predictions.csv").open(newline="") as file:
        scored_as = {row["path"]: row for row in csv.DictReader(file)}
    for one in review.items:
        row = review.correction(one)
        assert row.sha256 == sha256_of((folder / row.path).read_bytes())
        assert (row.was, row.confidence) == (
            scored_as[row.path]["label"],
            scored_as[row.path]["confidence"],
        )
        assert row.root == str(folder)
        assert row.model == f"{run.model.name}@{run.model.version}"
        assert row.drawn == (100 if row.why == "audit" else 0)


def test_images_are_small_and_missing_ones_are_counted(trained, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(encoded(picture(number, (1200, 700))))
    run = score_folder(str(folder), "shapes", str(tmp_path / "out"), trained.store)
    (folder / "0.jpg").unlink()
    (folder / "1.jpg").write_bytes(b"no picture any more")
    result = RunResult.model_validate(run, strict=False)
    review = build_review(result, open_storage(folder), open_storage(tmp_path / "out"))
    assert ([one.row.path for one in review.items], review.missing) == (["2.jpg"], 2)
    page = render_review(review)
    (jpeg,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    from PIL import Image

    assert max(Image.open(io.BytesIO(base64.b64decode(jpeg))).size) == SIDE
    assert "2 more images of the sample can no longer be read" in page


def test_a_file_that_grew_over_the_size_limit_is_not_read(trained, where, tmp_path, monkeypatch):
    """Even though the image could be decoded without the extra bytes."""
    monkeypatch.setattr(shared_memory_limits(MAX_PIXELS), "encoded", 1 << 20)
    (tmp_path / "in").mkdir()
    for number in range(2):
        (tmp_path / f"in/{number}.jpg").write_bytes(encoded(picture(number, (300, 200))))
    names = where(tmp_path / "in"), where(tmp_path / "out")
    run = RunResult.model_validate(
        score_folder(names[0], "shapes", names[1], trained.store), strict=False
    )
    with (tmp_path / "in/0.jpg").open("ab") as file:
        file.write(bytes(1 << 20))
    source, output = map(open_storage, names)
    review = build_review(run, source, output)
    assert ([one.row.path for one in review.items], review.missing) == (["1.jpg"], 1)
    assert [bool(read_thumbnail(source, f"{number}.jpg")) for number in range(2)] == [False, True]


def test_an_empty_run_has_no_questions(trained, tmp_path):
    (tmp_path / "in").mkdir()
    score_folder(str(tmp_path / "in"), "shapes", str(tmp_path / "out"), trained.store)
    page = (tmp_path / "out/review.html").read_text()
    Checked(page)
    assert "Nothing to review" in page
    assert "<script" not in page
