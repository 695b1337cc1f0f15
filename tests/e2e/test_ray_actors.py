"""Actors of a Ray of this machine's own that do not come to life: what is said, and who goes on."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from visionflows.cluster.actor_pool import MOST_DEATHS, _InFlight, _wait_for_actor
from visionflows.cluster.nodes import connected
from visionflows.cluster.scoring_actor import Scored, There, Work
from visionflows.errors import RunError
from visionflows.scoring.listing import Shard

ray = pytest.importorskip("ray", reason="ray is not installed")
LINE = r"on ray: no actor comes to life \(ModuleNotFoundError: .*only_here.*\); see that every node"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", autouse=True)
def _own_ray() -> Iterator[None]:
    with connected("ray"):
        yield


@pytest.fixture
def broken(tmp_path, monkeypatch) -> Any:
    """An actor whose class the node cannot import: only we have its folder on our path."""
    (tmp_path / "only_here.py").write_text("class Scorer:\n    def ready(self): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    return of(importlib.import_module("only_here").ScoringActor)


def of(kind: type) -> Any:
    return ray.remote(num_cpus=0, max_restarts=-1)(kind).remote()


def works(count: int) -> Iterator[Work]:
    there = There("", [], "", "", "")
    for number in range(count):
        yield Work(Shard(number, 0, 0, 0, ""), [], None, [], there)


def test_an_actor_that_does_not_come_to_life_is_given_up_and_others_do_its_shards(broken, caplog):
    class ScoringActor:
        def ready(self):
            pass

        def score(self, work):
            return Scored(work.shard.index, 0, "", {}, 0.0, 0)

    hands = _InFlight([broken, of(ScoringActor)], works(6))
    assert sorted(one.shard for one in hands.scored()) == [*range(6)]
    for _ in range(2 * MOST_DEATHS):  # it may take longer to fail than others to score
        if hands._in_hand:
            hands._taken(next(iter(hands._in_hand)))
    lines = [line for line in caplog.messages if "an actor does not come to life" in line]
    assert len(lines) == MOST_DEATHS
    assert "only_here" in lines[0]


def test_where_no_actor_comes_to_life_the_run_ends_in_a_line(broken):
    hands = _InFlight([broken], works(1))
    with pytest.raises(RunError, match=LINE) as told:
        next(hands.scored())
    assert "\n" not in str(told.value)


def test_a_first_actor_that_does_not_come_to_life_is_told_in_a_line(broken):
    with pytest.raises(RunError, match=LINE):
        _wait_for_actor(broken.ready.options(max_task_retries=-1).remote())
