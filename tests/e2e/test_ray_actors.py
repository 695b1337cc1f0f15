"""Actors on a local Ray that do not start: the error, and which actors score their shards."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from visionflows.cluster.actor_pool import MAX_DEATHS, InFlightTasks, wait_for_actor
from visionflows.cluster.nodes import connected
from visionflows.cluster.scoring_actor import ScoredShard, ShardTask
from visionflows.errors import RunError
from visionflows.scoring.listing import Shard

ray = pytest.importorskip("ray", reason="ray is not installed")
LINE = r"on ray: no actor starts \(ModuleNotFoundError: .*only_here.*\); check that every node"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", autouse=True)
def _own_ray() -> Iterator[None]:
    with connected("ray"):
        yield


@pytest.fixture
def broken(tmp_path, monkeypatch) -> Any:
    """An actor whose class the node cannot import: its folder is only on our path."""
    (tmp_path / "only_here.py").write_text("class ScoringActor:\n    def ready(self): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return of(importlib.import_module("only_here").ScoringActor)


def of(kind: type) -> Any:
    return ray.remote(num_cpus=0, max_restarts=-1)(kind).remote()


def tasks(count: int) -> Iterator[ShardTask]:
    for number in range(count):
        yield ShardTask(Shard(number, 0, 0, 0, ""), [], None, [], "", [], "", "", "")


def test_other_actors_score_the_shards_of_one_that_does_not_start(broken, caplog):
    class ScoringActor:
        def ready(self):
            pass

        def score(self, task):
            return ScoredShard(task.shard.index, 0, "", {}, 0.0, 0)

    in_flight = InFlightTasks([broken, of(ScoringActor)], tasks(6))
    assert sorted(one.shard for one in in_flight.results()) == [*range(6)]
    for _ in range(2 * MAX_DEATHS):  # it may take longer to fail than others to score
        if in_flight._in_flight:
            in_flight._take(next(iter(in_flight._in_flight)))
    lines = [line for line in caplog.messages if "an actor does not start" in line]
    assert len(lines) == MAX_DEATHS
    assert "only_here" in lines[0]


def test_a_run_whose_actors_do_not_start_ends_with_an_error(broken):
    in_flight = InFlightTasks([broken], tasks(1))
    with pytest.raises(RunError, match=LINE) as caught:
        next(in_flight.results())
    assert "\n" not in str(caught.value)


def test_waiting_for_an_actor_that_does_not_start_is_an_error(broken):
    with pytest.raises(RunError, match=LINE):
        wait_for_actor(broken.ready.options(max_task_retries=-1).remote())
