"""A scoring run whose shards are scored by the actors of a Ray cluster."""

import functools
import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from importlib import metadata

from visionflows.cluster.actor_pool import ActorPool, local_paths
from visionflows.cluster.nodes import check_nodes
from visionflows.cluster.scoring_actor import ScoredShard, ShardTask
from visionflows.scoring.listing import Shard
from visionflows.scoring.run import ScoringRun
from visionflows.scoring.schema import NodeTimings, RunResult
from visionflows.scoring.shards import RUN_MARKER
from visionflows.storage import location_text
from visionflows.storage.base import MISSING

# Files of the input that a node may see. More than one, because a file may vanish during the run.
SAMPLE_FILES = 20


class RayRun(ScoringRun):
    """A scoring run on a cluster. Shards end in any order, and a few are always in flight."""

    engine: ActorPool

    def _check_input(self) -> None:
        super()._check_input()
        self._marker = f"parts/{RUN_MARKER}{uuid.uuid4().hex}"
        self._files_by_shard: dict[int, int] = {}
        existing = itertools.islice(self._existing_files(), SAMPLE_FILES)
        self._sample = local_paths(self.source, *existing)
        probe = f".seen-{uuid.uuid4().hex}"  # nodes prove by this file that they see the output
        self.output.write(probe, b"")
        try:
            check_nodes(self.engine.nodes, self._sample, local_paths(self.output, probe))
        finally:
            self.output.remove(probe)

    def _existing_files(self) -> Iterator[str]:
        """Files of an input on a disk, the first of each shard."""
        for shard in self.listing.shards if self.source.is_local else ():
            entry = self.listing.files(shard)[0].entry
            is_file = entry.version not in ("", MISSING)  # and no folder that was not listed
            if is_file and (path := self.source.path(entry.name)) and os.path.exists(path):
                yield entry.name

    @functools.cached_property
    def _results(self) -> Iterator[ScoredShard]:
        """The scored shards as they end; until they are merged, this run owns the output."""
        self.output.write(self._marker, b"")
        return self.engine.score(self._tasks())

    def _tasks(self) -> Iterator[ShardTask]:
        output, version = location_text(self.output), metadata.version("visionflows")
        for shard in self._pending:
            yield ShardTask(
                *(shard, self.listing.files(shard), self.job, self.backends),
                root=self._source.root,
                sample=self._sample,
                output=output,
                marker=self._marker,
                version=version,
            )

    def merge(self) -> RunResult:
        """Write predictions.csv from the parts. From now on no actor writes parts."""
        self.output.remove(self._marker)
        nodes = {
            node: NodeTimings(files=files, seconds=round(seconds, 3))
            for node, (files, seconds) in sorted(self.engine.by_node.items())
        }
        return super().merge().model_copy(update={"nodes": nodes})

    def score(self, shard: Shard, on_batch: Callable[[int], None] | None = None) -> int:
        """Wait for a shard's part; returns the number of files scored."""
        while shard.index not in self._files_by_shard:
            scored = next(self._results)
            self._source.check_unchanged()
            self._files_by_shard[scored.shard] = scored.files
            self.scored += scored.files
            if on_batch:
                on_batch(scored.files)
        return self._files_by_shard.pop(shard.index)
