"""A cluster run whose input is still being listed, with an actor in this process."""

import itertools
import time

from conftest import write_shapes
from scored_runs import locked

from visionflows.cluster.actor_pool import ActorPool
from visionflows.cluster.ray_run import RayRun
from visionflows.cluster.scoring_actor import ScoringActor
from visionflows.inference import open_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import make_job
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.run import lock_output
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.shards import RUN_MARKER, prepare_output
from visionflows.scoring.work_list import start_work_list
from visionflows.storage import open_storage

SETTINGS = ScoreSettings(shard_size=5, batch_size=5)
IN_FLIGHT = 3


class OneActorPool(ActorPool):
    """A pool without a cluster: one actor in this process, with a few tasks in flight."""

    def __init__(self, model: str, store):
        self.model, self.nodes, self._actors = load_model(find_model(model, store)), [], [None]
        self.actor = ScoringActor(str(self.model.storage), SETTINGS, (1 << 16, 1))
        self.info, self.shards = self.actor.info(), []
        self.reset_counts()

    def score(self, tasks):
        in_flight = [*itertools.islice(tasks, IN_FLIGHT)]
        while in_flight:
            task = in_flight.pop(0)
            in_flight += itertools.islice(tasks, 1)
            self.shards.append(task.shard.index)
            scored = self.actor.score(task)
            self.count(scored)
            yield scored


def test_the_marker_of_a_killed_run_is_removed_by_the_next(trained, inbox, where, tmp_path):
    output, source = open_storage(where(tmp_path / "out")), Source(str(inbox))
    engine = open_engine("shapes", trained.store, SETTINGS)
    job = make_job(engine, source.text, SETTINGS)
    for number in range(2):
        with lock_output(str(output), 0):
            work = start_work_list(source, output, job, [engine.info.backend], SETTINGS).finish()
            pending = [*prepare_output(output, work)]
        assert len(pending) == 18
        assert not any(output.exists(f"parts/{RUN_MARKER}{earlier}") for earlier in range(number))
        assert output.names("parts") == ["plan.json"]
        output.write(f"parts/{RUN_MARKER}{number}", b"")  # killed here


def test_shards_are_scored_once_while_the_input_is_listed(trained, monkeypatch, tmp_path):
    folder = write_shapes(tmp_path / "in", each=20)
    score_folder(str(folder), "shapes", str(tmp_path / "whole"), trained.store, SETTINGS)
    monkeypatch.setattr("visionflows.scoring.run.LISTED_FIRST", 10)
    entries, pool = Source.entries, OneActorPool("shapes", trained.store)

    def slow(self):
        for number, entry in enumerate(entries(self)):
            while number == 55 and not (tmp_path / "out/parts/part-00000.json").exists():
                time.sleep(0.01)  # all but the last shards are listed, and the first is scored
            yield entry

    monkeypatch.setattr(Source, "entries", slow)
    with locked(RayRun(str(folder), str(tmp_path / "out"), pool, SETTINGS)) as run:
        for shard in run.pending_shards():
            run.score(shard)
        result = run.merge()
    assert result.counts.found == 60
    expected = (tmp_path / "whole/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == expected
    assert not list((tmp_path / "out/parts").glob("*run-*"))
    assert run.scored == 60
    assert sorted(pool.shards) == [*range(12)]
    assert [node.files for node in result.nodes.values()] == [60]
