"""The page that asks: complete, escaped, self-contained, and what it saves is of what is shown."""

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
from visionflows.reports.review import SIDE, review_of, review_page
from visionflows.reports.thumbnails import thumbnail
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


def told_in(page: str) -> dict:
    return json.loads(re.search(r'id="told">(.*?)</script>', page, re.DOTALL)[1])


def test_a_run_leaves_one_file_that_escapes_every_name(scored):
    _, output, run = scored
    page = (output / "review.html").read_text()
    seen = Checked(page)
    others = [one for one in seen.loaded if one and not one.startswith("data:image/jpeg")]
    assert all(one.startswith("#") for one in others)
    assert page.count("<script") == 2  # the data and the program
    assert "alert(1)" in page
    assert not re.search(r"https?://", page)
    told = told_in(page)
    assert told["classes"] == run.model.classes
    assert told["columns"] == [*COLUMNS]
    why = [row["why"] for row in told["rows"]]
    assert why == sorted(why, reverse=True)  # uncertain, then audit
    assert (why.count("uncertain"), why.count("audit")) == (60, 100)
    assert told["drawn"] == 100
    assert f"<code>{run.job}</code>" in page  # the seed


def test_what_is_saved_names_the_content_that_is_shown(scored):
    folder, output, run = scored
    review = review_of(run, open_storage(folder), open_storage(output))
    with (output / "predictions.csv").open(newline="") as file:
        scored_as = {row["path"]: row for row in csv.DictReader(file)}
    for one in review.shown:
        row = review.correction(one)
        assert row.sha256 == sha256_of((folder / row.path).read_bytes())
        assert (row.was, row.confidence) == (
            scored_as[row.path]["label"],
            scored_as[row.path]["confidence"],
        )
        assert row.root == str(folder)
        assert row.model == f"{run.model.name}@{run.model.version}"
        assert row.drawn == (100 if row.why == "audit" else 0)


def test_the_pictures_are_small_and_what_is_gone_is_counted(trained, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(encoded(picture(number, (1200, 700))))
    run = score_folder(str(folder), "shapes", str(tmp_path / "out"), trained.store)
    (folder / "0.jpg").unlink()
    (folder / "1.jpg").write_bytes(b"no picture any more")
    result = RunResult.model_validate(run, strict=False)
    review = review_of(result, open_storage(folder), open_storage(tmp_path / "out"))
    assert ([one.row.path for one in review.shown], review.gone) == (["2.jpg"], 2)
    page = review_page(review)
    (jpeg,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    from PIL import Image

    assert max(Image.open(io.BytesIO(base64.b64decode(jpeg))).size) == SIDE
    assert "2 more had been chosen, and could not be opened" in page


def test_a_file_grown_beyond_what_a_run_reads_is_not_read(trained, where, tmp_path, monkeypatch):
    """Cut short as it is, the rest of it would be no harm to the picture."""
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
    review = review_of(run, source, output)
    assert ([one.row.path for one in review.shown], review.gone) == (["1.jpg"], 1)
    assert [bool(thumbnail(source, f"{number}.jpg")) for number in range(2)] == [False, True]


def test_a_run_of_nothing_asks_nothing(trained, tmp_path):
    (tmp_path / "in").mkdir()
    score_folder(str(tmp_path / "in"), "shapes", str(tmp_path / "out"), trained.store)
    page = (tmp_path / "out/review.html").read_text()
    Checked(page)
    assert "Nothing to review" in page
    assert "<script" not in page
