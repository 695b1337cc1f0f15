"""Shards in groups: all of them, in order, in few enough groups."""

import pytest

from visionflows.scoring.listing import Shard
from visionflows.scoring.task_batches import MOST, batch_shards


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 250, 1000, 12345])
def test_every_shard_is_in_one_group_and_the_groups_are_few(count):
    shards = [Shard(index, 1, 0, 0, "") for index in range(count)]
    groups = list(batch_shards(shards))
    assert [shard for group in groups for shard in group] == shards
    assert len(groups) == min(count, len(groups)) <= MOST
    assert all(groups)


def test_a_group_says_which_shards_it_has():
    shards = [Shard(index, 1, 0, 0, "") for index in range(7, 17)]
    assert [str(group) for group in batch_shards(shards, most=1)] == ["shards 7 to 16"]
    assert [str(group) for group in batch_shards(shards)][:2] == ["shard 7", "shard 8"]
