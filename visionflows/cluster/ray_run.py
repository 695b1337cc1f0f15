"""A scoring run whose shards are scored by the actors of a Ray cluster.

with opened("pets", "store", ScoreSettings(on="ray")) as engine:
    run = run_of("inbox", "scores/night", engine, settings)
"""

import contextlib
import itertools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from visionflows.cluster.actor_pool import ActorPool, paths
from visionflows.cluster.nodes import check_nodes
from visionflows.cluster.scoring_actor import There, Work
from visionflows.scoring.input_source import absolute
from visionflows.scoring.listing import Shard
from visionflows.scoring.run import ScoringRun
from visionflows.scoring.schema import NodeTimings, RunResult
from visionflows.scoring.shards import MARK
from visionflows.storage.base import MISSING, Storage

SOME = 20  # files by which a node knows an input: one or the other may go while a run goes on


class RayRun(ScoringRun):
    """A scoring run on a cluster: shards may end in any order, and a few are always in hand."""

    engine: ActorPool

    def _check_input(self) -> None:
        super()._check_input()
        self._some = paths(self.source, *self._there())
        with _token(self.output) as token:
            check_nodes(self.engine.nodes, [*self._some, *token])

    def _there(self) -> list[str]:
        """A few files of the listing that are there: by one of them a node knows the input."""
        firsts = (self.listing.files(shard)[0].entry for shard in self.listing.shards)
        there = (entry.name for entry in firsts if entry.version != MISSING)
        return [*itertools.islice(filter(self._is_there, there), SOME)]

    def _is_there(self, name: str) -> bool:
        return all(os.path.exists(path) for some in paths(self.source, name) for path in some)

    def _begin(self, left: Iterable[Shard]) -> None:
        self._mark = f"parts/{MARK}{uuid.uuid4().hex}"
        self.output.write(self._mark, b"")
        self._stopped = False
        self._scored = self.engine.scored(self._works(left))
        self._done: dict[int, int] = {}

    def _stop(self) -> None:
        self._stopped = True
        for one in self._scored:  # what actors have in hand they write
            self.engine.noted(one)
            self.scored += one.files

    def _works(self, left: Iterable[Shard]) -> Iterator[Work]:
        some, output = [path for one in self._some for path in one], absolute(self.output)
        version = metadata.version("visionflows")
        there = There(self._input.root, some, output, self._mark, version)
        for shard in left:
            if self._stopped:
                return
            yield Work(shard, self.listing.files(shard), self.job, self.backends, there)

    def merge(self) -> RunResult:
        """Write predictions.csv from the parts, which no actor touches from now on."""
        self.output.remove(self._mark)
        return super().merge()

    def score(self, shard: Shard, on_batch: Callable[[int], None] | None = None) -> int:
        """Wait for a shard's part; how many files had to be scored."""
        while shard.index not in self._done:
            one = next(self._scored)
            self._input.check()
            self.engine.noted(one)
            self._done[one.shard] = one.files
            self.scored += one.files
            if on_batch:
                on_batch(one.files)
        return self._done.pop(shard.index)

    def _nodes(self) -> dict[str, NodeTimings]:
        told = sorted(self.engine.by_node.items())
        return {
            node: NodeTimings(files=int(files), seconds=round(seconds, 3))
            for node, (files, seconds) in told
        }


@contextlib.contextmanager
def _token(output: Storage) -> Iterator[list[list[str]]]:
    """A file in an output on a disk, by which nodes tell that it is this one; for the block."""
    name = f".seen-{uuid.uuid4().hex}"
    seen = paths(output, name)
    if seen:
        output.write(name, b"")
    try:
        yield seen
    finally:
        if seen:
            output.remove(name)
