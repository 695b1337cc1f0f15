"""The scoring engine through its own door: folders in, CSV out, compared with fastai's answers."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, encoded, picture, shape, write_shapes
from PIL import Image

from visionflows.engine import EngineSettings, make_engine
from visionflows.engine.decode import Row
from visionflows.errors import (
    LockedError,
    ModelError,
    OtherRunError,
    PlaceError,
    RunError,
    TooManyBadError,
)
from visionflows.images.status import STATUSES
from visionflows.model.bundle import load
from visionflows.model.registry import find
from visionflows.places import is_local, place
from visionflows.places.base import Entry
from visionflows.places.names import text_of
from visionflows.places.s3.client import call
from visionflows.scoring import shards
from visionflows.scoring.listing import File, Shard
from visionflows.scoring.run import ScoreSettings, ScoringRun, score_folder


def rows_of(output: Path) -> list[dict]:
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def probabilities(rows: list[dict]) -> np.ndarray:
    return np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows])


def fastai_probabilities(export: Path, files: list[Path]) -> np.ndarray:
    """What fastai itself says: load_learner, test_dl, get_preds."""
    from fastai.learner import load_learner

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learn = load_learner(export)
    with learn.no_bar(), learn.no_logging():
        answers, _ = learn.get_preds(dl=learn.dls.test_dl(files, bs=64, num_workers=0))
    return answers.numpy()


@pytest.fixture(scope="module")
def inbox(tmp_path_factory) -> Path:
    """90 good pictures of several sizes and formats, in folders."""
    folder = write_shapes(tmp_path_factory.mktemp("in") / "inbox", each=25, first_seed=1000)
    for number in range(15):
        size = (30 + 17 * number, 200 - 11 * number)
        name = f"odd/{number}.{('jpg', 'PNG', 'webp', 'bmp', 'tiff')[number % 5]}"
        (folder / "odd").mkdir(exist_ok=True)
        picture(number, size).save(folder / name)
    return folder


def test_probabilities_are_fastais_on_generated_images(trained, where, inbox, tmp_path):
    score_folder(where(inbox), where(tmp_path), "shapes", where(trained.store))
    rows = rows_of(tmp_path)
    assert len(rows) == 90
    assert {row["status"] for row in rows} == {"ok"}
    expected = fastai_probabilities(trained.export, [inbox / row["path"] for row in rows])
    assert np.abs(probabilities(rows) - expected).max() < 1e-4
    vocabulary = np.array(CLASSES)
    assert [row["label"] for row in rows] == list(vocabulary[expected.argmax(1)])


def test_probabilities_are_fastais_on_real_photos(trained, where, shared_data, tmp_path):
    with tarfile.open(shared_data / "inbox.tgz") as archive:
        members = [member for member in archive.getmembers() if member.isfile()][:150]
        archive.extractall(tmp_path, members=members, filter="data")
    score_folder(where(tmp_path / "inbox"), where(tmp_path / "out"), "shapes", where(trained.store))
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 150
    expected = fastai_probabilities(
        trained.export, [tmp_path / "inbox" / row["path"] for row in rows]
    )
    assert np.abs(probabilities(rows) - expected).max() < 1e-4


def test_rows_do_not_depend_on_how_they_are_computed(trained, inbox, tmp_path):
    score_folder(str(inbox), str(tmp_path / "a"), "shapes", trained.store)
    reference = probabilities(rows_of(tmp_path / "a"))
    for number, settings in enumerate(
        [
            ScoreSettings(batch_size=1, workers=1),
            ScoreSettings(batch_size=7, workers=3, shard_size=13),
            ScoreSettings(batch_size=64, workers=2, shard_size=1000),
        ]
    ):
        output = tmp_path / str(number)
        score_folder(str(inbox), str(output), "shapes", trained.store, settings)
        assert np.abs(probabilities(rows_of(output)) - reference).max() < 1e-5


def test_same_bytes_twice_whatever_the_shards_and_neighbours(trained, where, inbox, tmp_path):
    score_folder(where(inbox), where(tmp_path / "a"), "shapes", where(trained.store))
    score_folder(
        where(inbox),
        where(tmp_path / "b"),
        "shapes",
        where(trained.store),
        ScoreSettings(shard_size=7, workers=3),
    )
    whole = (tmp_path / "a/predictions.csv").read_bytes()
    assert (tmp_path / "b/predictions.csv").read_bytes() == whole
    part = tmp_path / "few"
    shutil.copytree(inbox / "odd", part / "odd")
    score_folder(where(part), where(tmp_path / "c"), "shapes", where(trained.store))
    few = (tmp_path / "c/predictions.csv").read_bytes().splitlines()
    assert few[1:] == [line for line in whole.splitlines() if line.startswith(b"odd/")]


def bad_files(folder: Path) -> dict[str, str]:
    """A file of every bad kind, by the status its row must have."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = encoded(picture(5, (200, 150)))
    contents = {
        "empty.jpg": (b"", "unreadable"),
        "truncated.jpg": (photo[: len(photo) // 2], "unreadable"),
        "truncated.png": (encoded(picture(6), "PNG")[:-200], "unreadable"),
        "text.jpg": (b"this is no picture", "unreadable"),
        "big.png": (encoded(Image.new("L", (20_000, 20_000), 7), "PNG"), "too_large"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    return {name: status for name, (_, status) in contents.items()} | {"gone.jpg": "missing"}


def good_files(folder: Path) -> list[str]:
    """Files that are unusual and fine."""
    folder.mkdir(parents=True, exist_ok=True)
    image = picture(8)
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    frames = [picture(seed) for seed in range(3)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 50}
    files = {
        "cmyk.jpg": encoded(image.convert("CMYK")),
        "deep.png": encoded(deep, "PNG"),
        "palette.png": encoded(image.quantize(16), "PNG", transparency=3),
        "moving.gif": encoded(frames[0], "GIF", **animated),
        "moving.webp": encoded(frames[0], "WEBP", **animated),
        "one.png": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        "a b, c.jpg": encoded(image),
        'say "x".jpg': encoded(image),
        "two\nlines.jpg": encoded(image),
        "=1+1.JPG": encoded(image),
        "saved.jpg_large": encoded(image),
        "no ending": encoded(image, "WEBP"),
        "caf\u00e9.jpg": encoded(image),
        os.fsdecode(b"caf\xe9.jpg"): encoded(image),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg/in.jpg").write_bytes(encoded(image))
    return [*files, "folder.jpg/in.jpg"]


def test_one_row_for_every_file_whatever_it_holds(trained, where, tmp_path):
    folder = tmp_path / "in"
    bad, good = bad_files(folder), good_files(folder)
    (folder / "notes.txt").write_text("not an image")
    if where is not str:  # rclone shows no link that leads nowhere; a key is UTF-8, in one line
        bad.pop("gone.jpg")
        for name in ("two\nlines.jpg", os.fsdecode(b"caf\xe9.jpg")):
            (folder / name).unlink()
            good.remove(name)
    settings = ScoreSettings(max_error_rate=1)
    run = score_folder(
        where(folder), where(tmp_path / "out"), "shapes", where(trained.store), settings
    )
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    assert list(rows) == sorted(rows)
    assert set(rows) == {text_of(name) for name in [*bad, *good]}
    for name, status in bad.items():
        row = rows[name]
        assert (row["status"], row["label"], row["confidence"]) == (status, "", "")
        assert row["error"]
        assert not any(row[f"p_{label}"] for label in CLASSES)
    for name in good:
        row = rows[text_of(name)]
        assert row["status"] == "ok", row
        assert row["label"] in CLASSES
        assert sum(float(row[f"p_{label}"]) for label in CLASSES) == pytest.approx(1, abs=1e-5)
    # The same picture under many names has the same answer under each.
    same = [rows[text_of(name)]["p_circle"] for name in good if name.endswith("jpg")][1:]
    assert len(set(same)) == 1
    books = run["books"]
    assert books["found"] == len(rows) == books["ok"] + books["failed"]
    assert books["failed"] == len(bad)
    assert books["ignored"] == 1
    assert books["ignored_by_ending"] == {".txt": 1}
    assert set(books["by_status"]) <= set(STATUSES)


def test_good_rows_among_bad_files_equal_those_of_a_clean_run(trained, where, tmp_path):
    clean = write_shapes(tmp_path / "clean", each=40, first_seed=2000)
    dirty = tmp_path / "dirty"
    shutil.copytree(clean, dirty)
    bad = bad_files(dirty / "circle")
    if where is not str:
        bad.pop("gone.jpg")  # rclone shows no link that leads nowhere
    store = where(trained.store)
    score_folder(where(clean), where(tmp_path / "a"), "shapes", store)
    score_folder(where(dirty), where(tmp_path / "b"), "shapes", store)
    assert len(bad) >= 5
    expected = (tmp_path / "a/predictions.csv").read_bytes().splitlines()
    lines = (tmp_path / "b/predictions.csv").read_bytes().splitlines()
    assert [line for line in lines if b",ok," in line or line in expected] == expected
    assert len(lines) == len(expected) + len(bad)


def test_a_file_that_vanishes_after_the_listing_is_missing(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=4)
    settings = ScoreSettings(batch_size=2, workers=1)
    engine = make_engine(load(find("shapes", where(trained.store))), settings)
    with ScoringRun(where(folder), where(tmp_path / "out"), engine, settings).alone() as scoring:
        left = scoring.prepare()
        (folder / "stripes/0003.png").unlink()
        for shard in left:
            scoring.score(shard)
        run = scoring.merge()
    assert run["books"]["by_status"] == {"missing": 1, "ok": 11}
    assert rows_of(tmp_path / "out")[-1]["status"] == "missing"


def test_unreadable_by_permission_is_a_row(trained, tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    closed = folder / "circle/0000.png"
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        os.chmod(tmp_path, 0o755)
        status = _row_as_nobody(closed)
    else:
        score_folder(str(folder), str(tmp_path / "out"), "shapes", trained.store)
        status = rows_of(tmp_path / "out")[0]["status"]
    assert status == "unreadable"


def _row_as_nobody(path: Path) -> str:
    """The status a user without rights gets: root reads every file, so a child gives up root."""
    import multiprocessing

    from visionflows.engine.decode import Decoder

    for folder in path.parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)

    def child(pipe):
        os.setuid(65534)
        decoded = Decoder(1, 32, "crop", 10**8)(place(path.parent), [path.name])
        pipe.send(decoded.rows[0].status)

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    process.start()
    process.join(30)
    return ours.recv()


def test_an_empty_folder_has_a_header_and_balanced_books(trained, where, tmp_path):
    (tmp_path / "in").mkdir()
    run = score_folder(
        where(tmp_path / "in"), where(tmp_path / "out"), "shapes", where(trained.store)
    )
    text = (tmp_path / "out/predictions.csv").read_bytes()
    assert text == b"path,status,label,confidence,error,p_circle,p_square,p_stripes\r\n"
    assert (run["books"]["found"], run["books"]["ok"], run["books"]["failed"]) == (0, 0, 0)


def test_a_missing_input_and_a_closed_output_fail_before_any_work(trained, tmp_path):
    with pytest.raises(PlaceError, match="no such folder"):
        score_folder(str(tmp_path / "nowhere"), str(tmp_path / "out"), "shapes", trained.store)
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PlaceError, match="cannot be written"):
        score_folder(str(tmp_path / "in"), str(tmp_path / "file/out"), "shapes", trained.store)


def test_an_output_inside_the_input_is_left_out_of_the_listing(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=2)
    output = folder / "scores"
    first = score_folder(where(folder), where(output), "shapes", where(trained.store))
    (output / "thumbnail.png").write_bytes(encoded(picture(1), "PNG"))
    second = score_folder(where(folder), where(output), "shapes", where(trained.store))
    assert first["books"]["found"] == second["books"]["found"] == 6


def test_a_second_run_into_the_same_output_is_refused(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    with (
        place(where(tmp_path / "out")).lock(".lock"),
        pytest.raises(LockedError, match="another run"),
    ):
        score_folder(where(folder), where(tmp_path / "out"), "shapes", where(trained.store))


def test_a_resumed_run_keeps_finished_shards_and_redoes_damaged_ones(
    trained, where, inbox, tmp_path
):
    settings = ScoreSettings(shard_size=10)
    run = score_folder(where(inbox), where(tmp_path), "shapes", where(trained.store), settings)
    whole = (tmp_path / "predictions.csv").read_bytes()
    assert run["timings"]["scored"] == 90
    (tmp_path / "run.json").unlink()
    (tmp_path / "parts/part-00003.json").unlink()  # killed between the part and its record
    (tmp_path / "parts/part-00005.csv").write_text("cut")  # damaged since
    again = score_folder(where(inbox), where(tmp_path), "shapes", where(trained.store), settings)
    assert again["timings"]["scored"] == 20
    assert (tmp_path / "predictions.csv").read_bytes() == whole


def test_an_unfinished_run_of_another_job_is_not_mixed_with_this_one(
    trained, where, inbox, tmp_path
):
    settings = ScoreSettings(shard_size=10)
    score_folder(where(inbox), where(tmp_path), "shapes", where(trained.store), settings)
    (tmp_path / "run.json").unlink()
    other = ScoreSettings(shard_size=20)
    with pytest.raises(OtherRunError, match="shard_size is 10, this one's 20"):
        score_folder(where(inbox), where(tmp_path), "shapes", where(trained.store), other)
    other = ScoreSettings(shard_size=20, restart=True)
    run = score_folder(where(inbox), where(tmp_path), "shapes", where(trained.store), other)
    assert run["timings"]["scored"] == 90
    assert len(list((tmp_path / "parts").glob("*.csv"))) == 5


def test_a_part_changed_before_the_merge_stops_the_run(trained, where, inbox, tmp_path):
    settings = ScoreSettings(shard_size=30)
    engine = make_engine(load(find("shapes", where(trained.store))), settings)
    with ScoringRun(where(inbox), where(tmp_path), engine, settings).alone() as scoring:
        for shard in scoring.prepare():
            scoring.score(shard)
        part = tmp_path / "parts/part-00001.csv"
        part.write_bytes(part.read_bytes().replace(b",ok,", b",OK,", 1))
        with pytest.raises(RunError, match="part-00001"):
            scoring.merge()
    assert not (tmp_path / "predictions.csv").exists()
    assert not (tmp_path / "run.json").exists()


def test_a_part_is_written_only_if_every_file_has_its_own_row(where, tmp_path):
    job = shards.Job("in", "0", 2, "m", ("a", "b"), {})
    shard = Shard(0, 2, 0, 0, "d")
    files = [File(Entry(name, 1, "1"), None) for name in ("1.jpg", "2.jpg")]
    rows = [Row(name, "ok", "", np.array([0.25, 0.75]), "") for name in ("1.jpg", "2.jpg")]
    for wrong in ([], rows[:1], rows[::-1], [*rows, rows[0]]):
        with pytest.raises(RunError, match="nothing written"):
            shards.write_part(place(where(tmp_path)), job, shard, files, wrong)
    assert not (tmp_path / "parts").exists()
    shards.write_part(place(where(tmp_path)), job, shard, files, rows)
    assert (tmp_path / "parts/part-00000.csv").read_text().splitlines() == [
        "path,status,label,confidence,error,p_a,p_b",
        "1.jpg,ok,b,0.750000,,0.250000,0.750000",
        "2.jpg,ok,b,0.750000,,0.250000,0.750000",
    ]


def test_a_changed_or_cut_weights_file_is_refused(trained, where, tmp_path):
    for change in (lambda data: data[:-10], lambda data: data[:-1] + bytes([data[-1] ^ 1])):
        copy = tmp_path / "bundle"
        shutil.copytree(trained.place, copy, dirs_exist_ok=True)
        weights = copy / "weights.safetensors"
        weights.write_bytes(change(weights.read_bytes()))
        with pytest.raises(ModelError, match=r"weights\.safetensors: cut or changed"):
            load(place(where(copy)))


def test_a_network_that_answers_otherwise_fails_the_self_check(trained, where, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(trained.place, copy)
    info = json.loads((copy / "model.json").read_text())
    info["normalise"]["mean"] = [0.9, 0.9, 0.9]
    (copy / "model.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match="fails its self-check"):
        make_engine(load(place(where(copy))), EngineSettings())


def test_killed_at_random_moments_and_resumed_to_the_same_bytes(trained, where, tmp_path):
    rounds = int(os.environ.get("VISIONFLOWS_TEST_KILLS") or (20 if where is str else 2))
    folder = write_shapes(tmp_path / "in", each=40, first_seed=3000)
    settings = ScoreSettings(shard_size=8, batch_size=4)
    score_folder(str(folder), str(tmp_path / "whole"), "shapes", trained.store, settings)
    expected = (tmp_path / "whole/predictions.csv").read_bytes()
    result = subprocess.run(
        [
            *(sys.executable, Path(__file__).parents[1] / "kill_and_resume.py"),
            *(where(folder), where(tmp_path / "outputs"), where(trained.store)),
            *(settings.model_dump_json(), str(rounds)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    kept = json.loads(result.stdout.splitlines()[-1])
    assert len(kept) == rounds
    assert unfinished_uploads(where(tmp_path)) == []
    for output in (tmp_path / "outputs").iterdir():
        assert (output / "predictions.csv").read_bytes() == expected
        assert json.loads((output / "run.json").read_text())["books"]["found"] == 120
    # The kills fell in the middle of the work: there were finished shards to keep.
    assert sum(0 < shards_kept < 15 for shards_kept in kept) >= rounds // 7


def unfinished_uploads(where: str) -> list[dict]:
    if is_local(where):
        return []
    bucket = place(where).bucket
    return call("list_multipart_uploads", bucket, Prefix="").get("Uploads", [])


def test_predictions_are_rfc_4180_and_utf_8(trained, where, tmp_path):
    folder = tmp_path / "in"
    good_files(folder)
    score_folder(where(folder), where(tmp_path / "out"), "shapes", where(trained.store))
    data = (tmp_path / "out/predictions.csv").read_bytes()
    assert data.decode("utf-8")
    assert data.endswith(b"\r\n")
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert {len(row) for row in rows} == {5 + len(CLASSES)}


def test_a_picture_of_the_shape_is_labelled_so(trained, tmp_path):
    for seed in range(5000, 5010):
        shape("stripes", seed).save(tmp_path / f"{seed}.png")
    score_folder(str(tmp_path), str(tmp_path / "out"), "shapes", trained.store)
    labels = [row["label"] for row in rows_of(tmp_path / "out")]
    assert labels.count("stripes") >= 8


ONLY_NEW = ScoreSettings(only_new=True, shard_size=10)


def score_new(trained, where, folder: Path, output: Path, model: str = "shapes") -> dict:
    return score_folder(where(folder), where(output), model, where(trained.store), ONLY_NEW)


def test_only_new_files_are_scored_and_the_rest_taken_over(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=15, first_seed=4000)
    first = score_new(trained, where, folder, tmp_path / "out")
    assert first["timings"]["forwarded"] == 45
    (folder / "circle/4000.png").unlink()
    os.utime(folder / "circle/4001.png", (1, 1))  # another time, the same bytes
    shape("stripes", 1).save(folder / "circle/4002.png")  # the same name, other bytes
    for seed in range(5):
        shape("square", 100 + seed).save(folder / f"new-{seed}.png")
    second = score_new(trained, where, folder, tmp_path / "out")
    assert second["timings"]["forwarded"] == 6
    books = second["books"]
    assert (books["found"], books["carried_over"]) == (49, 43)
    assert (books["changed"], books["vanished"]) == (1, 1)
    score_folder(where(folder), where(tmp_path / "anew"), "shapes", where(trained.store))
    anew = (tmp_path / "anew/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == anew
    assert not (tmp_path / "out/previous").exists()


def test_a_killed_only_new_run_still_has_what_it_took_over(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=15, first_seed=4000)
    score_new(trained, where, folder, tmp_path / "out")
    for seed in range(20):  # sorted before the rest: every shard is another one now
        shape("square", 100 + seed).save(folder / f"a-{seed:02d}.png")
    engine = make_engine(load(find("shapes", where(trained.store))), ONLY_NEW)
    with ScoringRun(where(folder), where(tmp_path / "out"), engine, ONLY_NEW).alone() as scoring:
        for shard in scoring.prepare()[:3]:
            scoring.score(shard)  # and here it dies
    assert not (tmp_path / "out/run.json").exists()
    (folder / "z.png").write_bytes((folder / "a-00.png").read_bytes())  # and the folder goes on
    run = score_new(trained, where, folder, tmp_path / "out")
    assert run["timings"]["forwarded"] == 1
    score_folder(where(folder), where(tmp_path / "anew"), "shapes", where(trained.store))
    anew = (tmp_path / "anew/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == anew


def test_another_model_scores_everything_again_and_says_why(trained, where, tmp_path, caplog):
    folder = write_shapes(tmp_path / "in", each=4)
    score_new(trained, where, folder, tmp_path / "out")
    copy = tmp_path / "bundle"
    shutil.copytree(trained.place, copy)
    info = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(info | {"version": "another"}))
    with caplog.at_level("INFO", "visionflows"):
        run = score_new(trained, where, folder, tmp_path / "out", model=where(copy))
    assert run["timings"]["forwarded"] == 12
    assert "nothing is taken over: the model changed" in caplog.text


def test_failed_files_can_be_scored_again_from_failures_csv(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=9)
    bad = bad_files(folder / "bad, ones")
    if where is not str:
        bad.pop("gone.jpg")  # rclone shows no link that leads nowhere
    count = len(bad)
    with pytest.raises(TooManyBadError, match=rf"{count} of {27 + count} .*failures\.csv"):
        score_folder(where(folder), where(tmp_path / "out"), "shapes", where(trained.store))
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["status"] == "failed"
    assert len(rows_of(tmp_path / "out")) == 27 + count
    (folder / "bad, ones/empty.jpg").write_bytes(encoded(picture(1)))  # mended
    failures = tmp_path / "out/failures.csv"
    again = score_folder(where(failures), where(tmp_path / "again"), "shapes", where(trained.store))
    assert {row["path"] for row in rows_of(tmp_path / "again")} == {f"bad, ones/{n}" for n in bad}
    assert again["books"]["by_status"]["ok"] == 1
    assert again["status"] == "done"  # 5 of 6 failed, but of fewer than 20 that says little


def test_top_adds_the_best_classes_in_order(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=3)
    (folder / "x.png").write_bytes(b"")
    settings = ScoreSettings(top=2)
    score_folder(where(folder), where(tmp_path / "out"), "shapes", where(trained.store), settings)
    *good, bad = rows_of(tmp_path / "out")
    assert (bad["top_1"], bad["top_2_p"]) == ("", "")
    for row in good:
        ranked = sorted(CLASSES, key=lambda name: -float(row[f"p_{name}"]))
        assert [row["top_1"], row["top_2"]] == ranked[:2]
        assert row["top_1_p"] == row["confidence"]
        assert row["top_2_p"] == row[f"p_{ranked[1]}"]


def test_a_preview_counts_and_writes_nothing(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=9)
    engine = make_engine(load(find("shapes", where(trained.store))), ONLY_NEW)
    preview = ScoringRun(where(folder), where(tmp_path / "out"), engine, ONLY_NEW).preview()
    assert not (tmp_path / "out").exists()
    assert (preview["files"], preview["done"], preview["left"]) == (27, 0, 27)
    assert preview["bytes"] == sum(path.stat().st_size for path in folder.rglob("*.png"))
    assert preview["seconds"] > 0
    score_new(trained, where, folder, tmp_path / "out")
    shape("square", 7).save(folder / "new.png")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    preview = ScoringRun(where(folder), where(tmp_path / "out"), engine, ONLY_NEW).preview()
    assert (preview["files"], preview["done"], preview["left"]) == (28, 27, 1)
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*")) == before


def test_a_waiting_run_starts_when_the_other_ends(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    held = threading.Event()

    def hold():
        with place(where(tmp_path / "out")).lock(".lock"):
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    settings = ScoreSettings(wait=30)
    run = score_folder(
        where(folder), where(tmp_path / "out"), "shapes", where(trained.store), settings
    )
    thread.join()
    assert run["books"]["ok"] == 3
