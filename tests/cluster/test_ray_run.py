"""A run on a cluster whose input is still being listed: what actors do is done here, in turn."""

import itertools

import pytest
from conftest import write_shapes

from visionflows.cluster.actor_pool import ActorPool
from visionflows.cluster.ray_run import RayRun
from visionflows.cluster.scoring_actor import ScoringActor
from visionflows.inference import open_engine
from visionflows.models.artifact import load
from visionflows.models.registry import find
from visionflows.scoring.input_source import Source
from visionflows.scoring.job import make_job
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.run import lock_output
from visionflows.scoring.settings import ScoreSettings
from visionflows.scoring.shards import MARK, Work, open_run
from visionflows.scoring.work_list import start_work_list
from visionflows.storage import open_storage

SETTINGS = ScoreSettings(shard_size=5, batch_size=5)
IN_HAND = 3


class OneActor(ActorPool):
    """A fleet without a cluster: a scorer of this process, which has a few shards in hand."""

    def __init__(self, model: str, store):
        self.model, self.nodes, self._actors = load(find(model, store)), [], [None]
        self.scorer = ScoringActor(str(self.model.storage), SETTINGS, (1 << 16, 1))
        self.info = self.scorer.info()
        self.seconds = dict.fromkeys(("read", "decode", "transfer", "forward"), 0.0)
        self.forwarded, self.by_node, self.shards = 0, {}, []

    def scored(self, works):
        in_hand = [*itertools.islice(works, IN_HAND)]
        while in_hand:
            work = in_hand.pop(0)
            in_hand += itertools.islice(works, 1)
            self.shards.append(work.shard.index)
            yield self.scorer.score(work)


def test_the_mark_of_a_killed_run_goes_when_another_begins(trained, inbox, where, tmp_path):
    output, source = open_storage(where(tmp_path / "out")), Source(str(inbox))
    engine = open_engine("shapes", trained.store, SETTINGS)
    job = make_job(engine, source.text, SETTINGS)
    for number in range(2):
        with lock_output(output, 0):
            found = start_work_list(source, output, job, [], SETTINGS).end()
            what = found.job, found.listing, source.storage, engine.info.backend, SETTINGS
            left = [*open_run(output, Work(*what))]
        assert len(left) == 18
        assert not any(output.exists(f"parts/{MARK}{earlier}") for earlier in range(number))
        assert output.names("parts") == ["plan.json"]
        output.write(f"parts/{MARK}{number}", b"")  # and killed there


@pytest.mark.parametrize("sorted_", [True, False])
def test_shards_of_a_listing_that_is_given_up_are_only_those_in_hand(
    trained, sorted_, monkeypatch, tmp_path
):
    folder = write_shapes(tmp_path / "in", each=20)
    score_folder(str(folder), "shapes", str(tmp_path / "whole"), trained.store, SETTINGS)
    monkeypatch.setattr("visionflows.scoring.run.LISTED_FIRST", 10)
    entries, fleet = Source.entries, OneActor("shapes", trained.store)

    def first_comes_last(self, sort, keep):
        some = [*entries(self, sort, keep)]
        if not (sorted_ or sort):
            some.append(some.pop(0))
        for number, entry in enumerate(some):
            while number == 55 and not (tmp_path / "out/parts/part-00000.json").exists():
                pass  # all but the last shards are listed, and the first is scored
            yield entry

    monkeypatch.setattr(Source, "entries", first_comes_last)
    with RayRun(str(folder), str(tmp_path / "out"), fleet, SETTINGS).lock_output() as run:
        for shard in run.pending_shards():
            run.score(shard)
        told = run.merge()
    assert told.counts.found == 60
    expected = (tmp_path / "whole/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == expected
    assert not list((tmp_path / "out/parts").glob("*run-*"))  # that of the first listing neither
    assert run.scored == 5 * len(fleet.shards)
    in_vain = len(fleet.shards) - 12
    assert in_vain == 0 if sorted_ else 1 <= in_vain <= 2 + IN_HAND
