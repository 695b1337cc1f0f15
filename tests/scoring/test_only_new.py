"""--only-new: rows of unchanged files are reused, and no others."""

import json
import os
import shutil
from pathlib import Path

from conftest import shape, write_shapes
from scored_runs import locked

from visionflows.inference import make_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.scoring.local_run import LocalRun, score_folder
from visionflows.scoring.settings import ScoreSettings

ONLY_NEW = ScoreSettings(only_new=True, shard_size=10)


def score_new(trained, where, folder: Path, output: Path, model: str = "shapes") -> dict:
    return score_folder(where(folder), model, where(output), where(trained.store), ONLY_NEW)


def test_only_new_files_are_scored_and_other_rows_reused(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=15, first_seed=4000)
    first = score_new(trained, where, folder, tmp_path / "out")
    assert first["timings"]["forwarded"] == 45
    (folder / "circle/4000.png").unlink()
    os.utime(folder / "circle/4001.png", (1, 1))  # another modification time, the same bytes
    shape("stripes", 1).save(folder / "circle/4002.png")  # the same name, other bytes
    for seed in range(5):
        shape("square", 100 + seed).save(folder / f"new-{seed}.png")
    second = score_new(trained, where, folder, tmp_path / "out")
    assert second["timings"]["forwarded"] == 6
    counts = second["counts"]
    assert (counts["found"], counts["reused"]) == (49, 43)
    assert (counts["changed"], counts["vanished"]) == (1, 1)
    score_folder(where(folder), "shapes", where(tmp_path / "fresh"), where(trained.store))
    fresh = (tmp_path / "fresh/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == fresh
    assert not (tmp_path / "out/previous").exists()


def test_a_killed_only_new_run_still_has_its_reused_rows(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=15, first_seed=4000)
    score_new(trained, where, folder, tmp_path / "out")
    for seed in range(20):  # sorted before the rest: every shard changes
        shape("square", 100 + seed).save(folder / f"a-{seed:02d}.png")
    engine = make_engine(load_model(find_model("shapes", where(trained.store))), ONLY_NEW)
    run = LocalRun(where(folder), where(tmp_path / "out"), engine, ONLY_NEW)
    with locked(run) as scoring:
        for shard in [*scoring.pending_shards()][:3]:
            scoring.score(shard)  # the run is killed here
    assert json.loads((tmp_path / "out/run.json").read_text())["counts"]["found"] == 45  # the last
    (folder / "z.png").write_bytes((folder / "a-00.png").read_bytes())  # and the folder goes on
    run = score_new(trained, where, folder, tmp_path / "out")
    assert run["timings"]["forwarded"] == 1
    score_folder(where(folder), "shapes", where(tmp_path / "fresh"), where(trained.store))
    fresh = (tmp_path / "fresh/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == fresh


def test_another_model_scores_everything_again_and_logs_why(trained, where, tmp_path, caplog):
    folder = write_shapes(tmp_path / "in", each=4)
    score_new(trained, where, folder, tmp_path / "out")
    copy = tmp_path / "bundle"
    shutil.copytree(trained.storage, copy)
    info = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(info | {"version": "another"}))
    with caplog.at_level("INFO", "visionflows"):
        run = score_new(trained, where, folder, tmp_path / "out", model=where(copy))
    assert run["timings"]["forwarded"] == 12
    assert "no rows are reused: model changed" in caplog.text


def test_a_preview_counts_and_writes_nothing(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=9)
    engine = make_engine(load_model(find_model("shapes", where(trained.store))), ONLY_NEW)
    preview = LocalRun(where(folder), where(tmp_path / "out"), engine, ONLY_NEW).preview()
    assert not (tmp_path / "out").exists()
    assert (preview["files"], preview["done"], preview["left"]) == (27, 0, 27)
    assert preview["bytes"] == sum(path.stat().st_size for path in folder.rglob("*.png"))
    assert preview["seconds"] > 0
    score_new(trained, where, folder, tmp_path / "out")
    shape("square", 7).save(folder / "new.png")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*"))
    preview = LocalRun(where(folder), where(tmp_path / "out"), engine, ONLY_NEW).preview()
    assert (preview["files"], preview["done"], preview["left"]) == (28, 27, 1)
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "out").rglob("*")) == before
