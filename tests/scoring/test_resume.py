"""Resuming killed or damaged runs, and runs into an output that another run uses."""

import threading
import time

import numpy as np
import pytest
from conftest import write_shapes
from scored_runs import job_of, locked

from visionflows.errors import LockedError, OtherRunError, RunError
from visionflows.inference import make_engine
from visionflows.inference.decoding import Row
from visionflows.inference.engine import Backend
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.scoring.listing import File, Shard, digest_names
from visionflows.scoring.local_run import LocalRun, score_folder
from visionflows.scoring.parts import write_part
from visionflows.scoring.schema import JobSettings
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage
from visionflows.storage.base import Entry

SETTINGS = JobSettings(precision="float32", batch_size=1, max_pixels=1, top=0, shard_size=2)
BACKEND = Backend(device="cpu", precision="float32", kernel="eager", versions={})


def test_a_second_run_into_the_same_output_is_refused(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    with (
        open_storage(where(tmp_path / "out")).lock(".lock"),
        pytest.raises(LockedError, match="another run"),
    ):
        score_folder(where(folder), "shapes", where(tmp_path / "out"), where(trained.store))


def test_a_resumed_run_keeps_finished_shards_and_redoes_damaged_ones(
    trained, where, inbox, tmp_path
):
    settings = ScoreSettings(shard_size=10)
    run = score_folder(where(inbox), "shapes", where(tmp_path), where(trained.store), settings)
    whole = (tmp_path / "predictions.csv").read_bytes()
    assert run["timings"]["scored"] == 90
    (tmp_path / "run.json").unlink()
    (tmp_path / "parts/part-00003.json").unlink()  # killed between part and record
    (tmp_path / "parts/part-00005.csv").write_text("cut")  # damaged afterwards
    again = score_folder(where(inbox), "shapes", where(tmp_path), where(trained.store), settings)
    assert again["timings"]["scored"] == 20
    assert (tmp_path / "predictions.csv").read_bytes() == whole


def test_an_unfinished_run_of_another_job_is_not_mixed_with_this_one(
    trained, where, inbox, tmp_path
):
    settings = ScoreSettings(shard_size=10)
    score_folder(where(inbox), "shapes", where(tmp_path), where(trained.store), settings)
    (tmp_path / "run.json").unlink()
    other = ScoreSettings(shard_size=20)
    with pytest.raises(OtherRunError, match="shard_size is 10, this one's 20"):
        score_folder(where(inbox), "shapes", where(tmp_path), where(trained.store), other)
    other = ScoreSettings(shard_size=20, restart=True)
    run = score_folder(where(inbox), "shapes", where(tmp_path), where(trained.store), other)
    assert run["timings"]["scored"] == 90
    assert len(list((tmp_path / "parts").glob("*.csv"))) == 5


def test_a_part_changed_before_the_merge_stops_the_run(trained, where, inbox, tmp_path):
    settings = ScoreSettings(shard_size=30)
    engine = make_engine(load_model(find_model("shapes", where(trained.store))), settings)
    with locked(LocalRun(where(inbox), where(tmp_path), engine, settings)) as scoring:
        for shard in scoring.pending_shards():
            scoring.score(shard)
        part = tmp_path / "parts/part-00001.csv"
        part.write_bytes(part.read_bytes().replace(b",ok,", b",OK,", 1))
        with pytest.raises(RunError, match="part-00001"):
            scoring.merge()
    assert not (tmp_path / "predictions.csv").exists()
    assert not (tmp_path / "run.json").exists()


def test_a_part_is_written_only_if_every_file_has_a_row(where, tmp_path):
    job = job_of(SETTINGS, listing="0", files=2)
    shard = Shard(0, 2, 0, 0, digest_names(["1.jpg", "2.jpg"]))
    files = [File(Entry(name, 1, "1")) for name in ("1.jpg", "2.jpg")]
    rows = [Row(name, "ok", "", np.array([0.25, 0.75]), "", label=1) for name in ("1.jpg", "2.jpg")]
    for wrong in ([], rows[:1], rows[::-1], [*rows, rows[0]]):
        with pytest.raises(RunError, match="nothing written"):
            write_part(open_storage(where(tmp_path)), job, shard, files, wrong, [BACKEND])
    assert not (tmp_path / "parts").exists()
    write_part(open_storage(where(tmp_path)), job, shard, files, rows, [BACKEND])
    assert (tmp_path / "parts/part-00000.csv").read_text().splitlines() == [
        "path,status,label,confidence,error,p_a,p_b",
        "1.jpg,ok,b,0.750000,,0.250000,0.750000",
        "2.jpg,ok,b,0.750000,,0.250000,0.750000",
    ]


def test_a_waiting_run_starts_when_the_other_ends(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    held = threading.Event()

    def hold():
        with open_storage(where(tmp_path / "out")).lock(".lock"):
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    settings = ScoreSettings(wait=30)
    run = score_folder(
        where(folder), "shapes", where(tmp_path / "out"), where(trained.store), settings
    )
    thread.join()
    assert run["counts"]["ok"] == 3
