"""Shards in batches: all of them, in order, in a bounded number of batches."""

import pytest

from visionflows.orchestration.scoring_runs import MAX_TASKS, batch_shards
from visionflows.scoring.listing import Shard


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 250, 1000, 12345])
def test_every_shard_is_in_one_batch_and_batches_are_few(count):
    shards = [Shard(index, 1, 0, 0, "") for index in range(count)]
    batches = list(batch_shards(shards))
    assert [shard for batch in batches for shard in batch] == shards
    assert len(batches) == min(count, len(batches)) <= MAX_TASKS
    assert all(batches)


def test_a_batch_names_its_shards():
    shards = [Shard(index, 1, 0, 0, "") for index in range(7, 17)]
    assert [str(batch) for batch in batch_shards(shards, most=1)] == ["shards 7 to 16"]
    assert [str(batch) for batch in batch_shards(shards)][:2] == ["shard 7", "shard 8"]
