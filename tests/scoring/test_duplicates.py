"""--find-duplicates: images that were in training, and duplicates within a run."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Trained, encoded, shape, write_shapes
from PIL import Image
from scored_runs import rows_of

from visionflows.cli.results import summary_lines
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings

SETTINGS = ScoreSettings(find_duplicates=True, shard_size=3, max_error_rate=1)


def scene(seed: int) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(colours).resize((240, 180), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    scene(1).save(folder / "a.png")
    shape("circle", 3).resize((90, 90)).save(folder / "circle, larger.jpg", quality=70)
    (folder / "b.jpg").write_bytes(encoded(scene(1).resize((100, 75)), quality=60))
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "broken again.jpg").write_bytes(b"no picture")
    shutil.copy(folder / "a.png", folder / "z.png")
    scene(2).save(folder / "other.png")
    for name, colour in (("flat 1", "red"), ("flat 2", "red"), ("flat 3", "blue")):
        Image.new("RGB", (60, 40), colour).save(folder / f"{name}.png")
    Image.new("RGB", (61, 40), "red").save(folder / "flat 4.png")
    shape("stripes", 7).save(folder / "stripes.png")
    return folder


AGAIN = {
    "b.jpg": "a.png",
    "z.png": "a.png",
    "flat 2.png": "flat 1.png",  # of one colour: only equal bytes are duplicates
}
SEEN = {"circle, larger.jpg": "circle/0003.png", "stripes.png": "stripes/0007.png"}


def columns(output: Path) -> tuple[dict[str, str], dict[str, str]]:
    rows = rows_of(output)
    assert [*rows[0]][-2:] == ["seen_in_training", "duplicate_of"]
    names = ("seen_in_training", "duplicate_of")
    seen, again = ({row["path"]: row[name] for row in rows if row[name]} for name in names)
    return seen, again


def scored(trained: Trained, where, folder: Path, output: Path, **changes: object) -> dict:
    settings = SETTINGS.model_copy(update=changes)
    arguments = where(folder), changes.pop("model", "shapes"), where(output)
    return score_folder(*arguments, where(trained.store), settings)


def test_rows_name_their_duplicates(trained, where, photos, tmp_path):
    run = scored(trained, where, photos, tmp_path / "out", spreadsheet=True, top=1, exif=True)
    assert columns(tmp_path / "out") == (SEEN, AGAIN)
    assert run["duplicates"] == {"seen_in_training": 2, "duplicates": 3}
    assert run["counts"]["by_status"] == {"ok": 10, "unreadable": 2}
    lines = [line.strip() for line in summary_lines(run)]
    assert "2  seen in training" in lines
    assert "3  duplicates of an earlier file" in lines
    assert "<code>duplicate_of</code>" in (tmp_path / "out/report.html").read_text()
    sheet = (tmp_path / "out/spreadsheet.csv").read_text(encoding="utf-8-sig")
    there = {row["path"]: row["duplicate_of"] for row in csv.DictReader(io.StringIO(sheet))}
    assert {path: first for path, first in there.items() if first} == AGAIN


def test_a_killed_run_resumes_to_the_same_bytes(trained, where, photos, tmp_path):
    scored(trained, where, photos, tmp_path / "out")
    whole = (tmp_path / "out/predictions.csv").read_bytes()
    for name in ("parts/part-00001.json", "run.json"):
        (tmp_path / "out" / name).unlink()
    run = scored(trained, where, photos, tmp_path / "out")
    assert run["timings"]["forwarded"] < 10
    assert (tmp_path / "out/predictions.csv").read_bytes() == whole


def test_reused_rows_are_compared_with_new_ones(trained, where, photos, tmp_path):
    scored(trained, where, photos, tmp_path / "out")
    scene(2).resize((120, 90)).save(photos / "first.jpg")
    (photos / "a.png").unlink()
    run = scored(trained, where, photos, tmp_path / "out", only_new=True)
    assert run["timings"]["forwarded"] == 1
    expected = {**AGAIN, "other.png": "first.jpg", "z.png": "b.jpg"}
    del expected["b.jpg"]
    assert columns(tmp_path / "out") == (SEEN, expected)


def test_failed_files_are_compared_when_they_are_retried(trained, where, photos, tmp_path):
    scored(trained, where, photos, tmp_path / "out")
    (photos / "broken.jpg").write_bytes(encoded(scene(2), quality=50))
    where(photos)  # wait until the server sees it
    scored(trained, where, photos, tmp_path / "out", retry_failed=True)
    seen, again = columns(tmp_path / "out")
    assert (seen, again) == (SEEN, {**AGAIN, "other.png": "broken.jpg"})


def test_without_the_option_rows_and_job_are_unchanged(trained, photos, tmp_path):
    run = scored(trained, str, photos, tmp_path / "out", find_duplicates=False)
    assert "duplicate_of" not in (tmp_path / "out/predictions.csv").read_text()
    assert run["duplicates"] is None
    plan = json.loads((tmp_path / "out/parts/plan.json").read_text())
    assert "find_duplicates" not in plan["settings"]


def test_many_rows_of_a_few_images(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=20, first_seed=9000)
    for at in range(30):
        shutil.copy(folder / "circle/9000.png", folder / f"{at:02}.png")
    scored(trained, str, folder, tmp_path / "out", shard_size=7)
    seen, again = columns(tmp_path / "out")
    copies = {f"{at:02}.png" for at in range(1, 30)} | {"circle/9000.png"}
    assert again == dict.fromkeys(copies, "00.png")
    assert not seen
