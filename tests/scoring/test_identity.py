"""A row is reused only for the same content, input, model and backend."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import encoded, shape, write_shapes
from PIL import Image
from scored_runs import rows_of

from visionflows.errors import OtherRunError
from visionflows.inference import engine as engines
from visionflows.inference import open_engine
from visionflows.scoring.local_run import LocalRun, score_folder
from visionflows.scoring.settings import ScoreSettings

SMALL = ScoreSettings(shard_size=5, batch_size=5)
NEW = SMALL.model_copy(update={"only_new": True})


def scored(trained, folder: Path, output: Path, settings: ScoreSettings = SMALL) -> dict:
    return score_folder(str(folder), "shapes", str(output), trained.store, settings)


def forwarded(trained, folder: Path, output: Path, settings: ScoreSettings = SMALL) -> int:
    return scored(trained, folder, output, settings)["timings"]["forwarded"]


def replace_image(path: Path) -> None:
    """Replace the content, but keep name, size and modification time."""
    before, data = path.stat(), bytearray(path.read_bytes())
    shape("stripes", 77).save(path)
    data[-200:-100] = os.urandom(100)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.fixture
def bitmaps(tmp_path) -> Path:
    """Ten images of equal file size."""
    (tmp_path / "in").mkdir()
    for seed in range(10):
        (tmp_path / f"in/{seed}.bmp").write_bytes(encoded(shape("circle", seed), "BMP"))
    return tmp_path / "in"


@pytest.mark.parametrize("settings", [SMALL, NEW])
def test_another_image_of_the_same_name_size_and_time_is_scored(
    trained, bitmaps, settings, tmp_path
):
    scored(trained, bitmaps, tmp_path / "out", settings)
    replace_image(bitmaps / "3.bmp")
    assert forwarded(trained, bitmaps, tmp_path / "out", settings) == (1 if settings == NEW else 5)
    scored(trained, bitmaps, tmp_path / "fresh")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


def test_the_same_bytes_under_another_time_or_inode_are_not_scored_again(
    trained, bitmaps, tmp_path
):
    scored(trained, bitmaps, tmp_path / "out")
    os.utime(bitmaps / "1.bmp", (1, 1))
    shutil.copy(bitmaps / "2.bmp", tmp_path / "copy")
    os.replace(tmp_path / "copy", bitmaps / "2.bmp")
    for settings in (SMALL, NEW):
        assert forwarded(trained, bitmaps, tmp_path / "out", settings) == 0


def test_another_input_into_a_finished_output_needs_replace(trained, where, tmp_path):
    one, two = (write_shapes(tmp_path / name, each=1) for name in ("one", "two"))
    output, store = where(tmp_path / "out"), where(trained.store)
    score_folder(where(one), "shapes", output, store)
    before = (tmp_path / "out/predictions.csv").read_bytes()
    for settings in (ScoreSettings(), ScoreSettings(only_new=True), ScoreSettings(restart=True)):
        with pytest.raises(OtherRunError, match=r"holds the result of .*one, not of .*two"):
            score_folder(where(two), "shapes", output, store, settings)
    assert (tmp_path / "out/predictions.csv").read_bytes() == before
    meant = ScoreSettings(replace=True)
    run = score_folder(where(two), "shapes", output, store, meant)
    assert run["root"] == where(two)


def test_a_preview_says_that_the_run_would_be_refused(trained, tmp_path):
    one, two = (write_shapes(tmp_path / name / "in", each=1) for name in ("one", "two"))
    scored(trained, one, tmp_path / "out")
    engine = open_engine("shapes", trained.store, SMALL)
    with pytest.raises(
        OtherRunError, match=r"holds the result of .*one/in, not of .*two/in"
    ) as caught:
        LocalRun(str(two), str(tmp_path / "out"), engine, SMALL).preview()
    assert "if it is the same under another path, use --replace --only-new" in str(caught.value)
    assert "--retry-failed" not in str(caught.value), "which would be refused too"


def test_a_folder_whose_files_changed_is_the_same_input(trained, tmp_path, monkeypatch):
    folder = write_shapes(tmp_path / "in", each=2)
    scored(trained, folder, tmp_path / "out")
    (folder / "circle/0000.png").unlink()
    shape("square", 9).save(folder / "new.png")
    monkeypatch.chdir(tmp_path)
    assert scored(trained, Path("in"), tmp_path / "out")["counts"]["found"] == 6
    assert scored(trained, folder, tmp_path / "out")["timings"]["scored"] == 0


def test_rows_of_another_input_are_reused_only_for_the_same_content(trained, bitmaps, tmp_path):
    scored(trained, bitmaps, tmp_path / "out")
    shutil.copytree(bitmaps, tmp_path / "two")
    replace_image(tmp_path / "two/3.bmp")
    for path in bitmaps.iterdir():
        stat = path.stat()
        os.utime(tmp_path / "two" / path.name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    meant = NEW.model_copy(update={"replace": True})
    assert forwarded(trained, tmp_path / "two", tmp_path / "out", meant) == 1
    scored(trained, tmp_path / "two", tmp_path / "fresh")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "fresh")


def test_failures_that_may_be_temporary_are_retried(trained, bitmaps, tmp_path, monkeypatch):
    from visionflows.images import open as opening

    (bitmaps / "bad.png").write_bytes(b"no picture")
    (bitmaps / "gone.png").symlink_to("nowhere")
    shape("circle", 1, size=44).save(bitmaps / "heavy.bmp")
    real = opening.to_rgb

    def no_memory(image, *how):
        if image.size == (44, 44) and no_memory.left:
            no_memory.left -= 1
            raise MemoryError
        return real(image, *how)

    no_memory.left = 1
    monkeypatch.setattr(opening, "to_rgb", no_memory)
    first = scored(trained, bitmaps, tmp_path / "out", NEW)
    assert first["counts"]["by_status"] == {"missing": 1, "ok": 10, "too_large": 1, "unreadable": 1}
    second = scored(trained, bitmaps, tmp_path / "out", NEW)
    assert second["timings"]["scored"] == 2  # the image without memory, and the missing one
    assert second["counts"]["by_status"] == {"missing": 1, "ok": 11, "unreadable": 1}
    monkeypatch.setattr(engines, "engine_versions", lambda libraries: {"pillow": "99"})
    third = scored(trained, bitmaps, tmp_path / "out", NEW)
    assert third["timings"]["scored"] == 2  # also what another decoder refused


def test_files_refused_for_short_memory_are_scored_again(trained, bitmaps, tmp_path, monkeypatch):
    Image.new("RGB", (1000, 1000)).save(bitmaps / "decoded.png")
    (bitmaps / "encoded.png").write_bytes(encoded(shape("circle", 1)) + bytes(2_000_000))
    with monkeypatch.context() as small:
        small.setattr("visionflows.images.memory_limits.memory_bytes", lambda: 12_000_000)
        first = scored(trained, bitmaps, tmp_path / "out", NEW)
    assert first["counts"]["by_status"] == {"ok": 10, "too_large": 2}
    assert scored(trained, bitmaps, tmp_path / "out", NEW)["counts"]["by_status"] == {"ok": 12}


def test_run_json_names_all_machines_of_a_result(trained, bitmaps, tmp_path, monkeypatch):
    whole = scored(trained, bitmaps, tmp_path / "out")
    (alone,) = whole["backends"]
    assert (alone["files"], alone["parts"]) == (10, "0-1")
    assert alone["precision"] == "float32"
    assert {"openvino", "pillow", "numpy"} <= alone["versions"].keys()
    (tmp_path / "out/parts/part-00001.json").unlink()  # and it resumes on another machine
    monkeypatch.setattr(engines, "engine_versions", lambda libraries: {"torch": "99"})
    mixed = scored(trained, bitmaps, tmp_path / "out")
    assert [one["parts"] for one in mixed["backends"]] == ["0", "1"]
    page = (tmp_path / "out/report.html").read_text()
    assert "omputed by 2 backends: 5 files (parts 0) by" in page
    from visionflows.cli.results import summary_lines

    assert [
        line
        for line in summary_lines(mixed)
        if "computed by 2 backends" in line and "torch 99" in line
    ]
    shape("square", 3).save(bitmaps / "a.png")  # reused rows keep their backend
    third = scored(trained, bitmaps, tmp_path / "out", NEW)
    assert sorted(one["files"] for one in third["backends"]) == [5, 6]
