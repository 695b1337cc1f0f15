"""Shards in groups, so that a run has a bounded number of steps however many files there are.

for shards in in_groups(run.settle()):
    print(shards)                                       # shards 0 to 9
"""

from collections.abc import Iterator, Sequence

from visionflows.scoring.listing import Shard

MOST = 100  # groups of a run: what a person may look through, and a server keep


class ShardBatch(tuple[Shard, ...]):
    """Shards that follow each other; its text says which."""

    def __str__(self) -> str:
        first, last = self[0].index, self[-1].index
        return f"shard {first}" if first == last else f"shards {first} to {last}"


def batch_shards(shards: Sequence[Shard], most: int = MOST) -> Iterator[ShardBatch]:
    """The shards in order, in at most so many groups of about one size."""
    size = max(-(-len(shards) // most), 1)
    for at in range(0, len(shards), size):
        yield ShardBatch(shards[at : at + size])
