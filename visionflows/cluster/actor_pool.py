"""The actors of a run on Ray: each has the model, and is given shards until none is left.

    with connected("ray"):
        fleet = Fleet(model, settings)
        for scored in fleet.scored(works): …

Ray places actors and brings lost ones to life again, where there is room. What one had in hand when
it died is given to another at once: an actor whose node is gone may wait for another for ever.
"""

import collections
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from visionflows.cluster.nodes import Node, check_nodes, nodes, ray
from visionflows.cluster.scoring_actor import Scored, ScoringActor, Work
from visionflows.errors import (
    RunError,
    ServerError,
    SettingsError,
    VisionflowsError,
    one_line,
)
from visionflows.models.artifact import Model, load
from visionflows.models.registry import find
from visionflows.scoring.input_source import absolute
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage.base import Storage
from visionflows.storage.local import LocalStorage

log = logging.getLogger("visionflows.cluster")

IN_HAND = 2  # shards of an actor: one that it scores, and one that it need not wait for
# Of actors that had a shard in hand: by then it is the shard. And of an actor without one.
MOST_DEATHS = 5
PATIENCE = 30.0  # seconds without an answer, after which it is said that nothing moves


class _Kind(NamedTuple):
    """What an actor takes of a node."""

    cores: int
    gpus: int

    def on(self, node: Node) -> int:
        """How many of them a node holds."""
        held = node.cores // self.cores
        return min(held, node.gpus) if self.gpus else held


def _kind(found: list[Node], settings: ScoreSettings) -> _Kind:
    """One actor a GPU, where there are any; else one of so many cores as the smallest node has.

    Raises SettingsError where no node has what an actor is to take.
    """
    with_gpu = [node for node in found if node.gpus]
    openvino = settings.engine == "openvino" or settings.precision == "int8"
    if settings.device == "cuda" or (with_gpu and settings.device == "auto" and not openvino):
        cores = min((node.cores // node.gpus for node in with_gpu), default=1)
        kind = _Kind(settings.actor_cores or max(cores, 1), 1)
    else:
        smallest = min(node.cores for node in found if node.cores)
        kind = _Kind(settings.actor_cores or smallest, 0)
    if not sum(map(kind.on, found)):
        what = f"{kind.cores} cores{' and a GPU' if kind.gpus else ''}"
        raise SettingsError(
            f"on {settings.on}: no node has {what} for an actor; give another --actor-cores or "
            "--device"
        )
    return kind


class ActorPool:
    """Actors that score; to a run what an engine is (`scoring.job.AnyEngine`)."""

    def __init__(self, model: Model, settings: ScoreSettings):
        self.model, self.nodes = model, nodes()
        check_nodes(self.nodes, paths(model.storage, "model.json"))
        kind = _kind(self.nodes, settings)
        self._actors = _actors(model, settings, kind, [kind.on(node) for node in self.nodes])
        info = _wait_for_actor(self._actors[0].info.options(max_task_retries=-1).remote())
        count = len(self._actors), sum(kind.on(node) > 0 for node in self.nodes)
        device_name = f"Ray: {count[0]} actors on {count[1]} nodes, {info.device_name}"
        self.info = info._replace(device_name=device_name)
        self.seconds = dict.fromkeys(("read", "decode", "transfer", "forward"), 0.0)
        self.forwarded = 0
        self.by_node: dict[str, tuple[int, float]] = {}  # files, and the seconds actors took

    def scored(self, works: Iterator[Work]) -> Iterator[Scored]:
        """What became of each shard, as they end; taken from `works` a few ahead."""
        return _InFlight(self._actors, works).scored()

    def noted(self, one: Scored) -> None:
        """Write a shard into the books: seconds are those of an actor on average."""
        for stage, seconds in one.seconds.items():
            self.seconds[stage] += seconds / len(self._actors)
        self.forwarded += one.forwarded
        files, seconds = self.by_node.get(one.node, (0, 0.0))
        self.by_node[one.node] = files + one.files, seconds + one.took


def open_pool(model: str, store: str | Path, settings: ScoreSettings) -> ActorPool:
    """The actors of a model, such as `pets@production` in a store, on the connected cluster."""
    pool = ActorPool(load(find(model, store)), settings)
    log.info("%s on %s, %s", pool.model.name, pool.info.device_name, pool.info.backend.precision)
    return pool


def _actors(model: Model, settings: ScoreSettings, kind: _Kind, held: list[int]) -> list[Any]:
    """As many actors as the nodes hold; Ray places them, and places anew what is lost."""
    options = {"num_cpus": kind.cores, "num_gpus": kind.gpus, "max_restarts": -1}
    made = ray().remote(scheduling_strategy="SPREAD", **options)(ScoringActor)
    of_node = kind.cores, max(held)
    return [made.remote(absolute(model.storage), settings, of_node) for _ in range(sum(held))]


def paths(where: Storage, *names: str) -> list[list[str]]:
    """The paths of files in a place on a disk, one of which is to be there; none for one in S3."""
    local = isinstance(where, LocalStorage)
    return [[os.path.join(absolute(where), name) for name in names]] if local and names else []


def _wait_for_actor(reference: Any) -> Any:
    """An answer, for which an actor may have to wait for its place. Raises as `_answer` and
    RunError where the actor does not come to life."""
    while not _ended([reference]):
        log.warning("no actor has begun: waiting for Ray to place one (`ray status` says why)")
    try:
        return _answer(reference)
    except ray().exceptions.RayError as error:
        raise _lifeless(_why(error)) from error


def _ended(references: list[Any]) -> list[Any]:
    """The first of these that ends, if any does in the time of our patience. Raises ServerError."""
    try:
        ended, _ = ray().wait(references, num_returns=1, timeout=PATIENCE)
    except Exception as error:  # what Ray's client raises of a lost connection has no class
        raise _gone(error) from error
    return list(ended)


def _lifeless(why: str) -> RunError:
    return RunError(
        f"on ray: no actor comes to life ({why}); see that every node can import visionflows and "
        "has what it needs, and run again to go on"
    )


def _why(error: Exception) -> str:
    """The last line of what Ray says, where that of the actor stands."""
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[-1].strip())


def _gone(error: Exception) -> ServerError:
    why = one_line(str(error))
    return ServerError(f"on ray: the cluster went away ({why}); the same command goes on")


def _answer(reference: Any) -> Any:
    """What an actor answers. Raises our own errors by their kind, and Ray's where one has died."""
    module = ray()
    try:
        return module.get(reference)
    except module.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, VisionflowsError):
            raise type(cause)(f"on a node of the cluster: {cause}") from None
        said = f"{type(cause).__name__}: {one_line(str(cause))}"
        raise RunError(
            f"on a node of the cluster: {said}; the same command goes on, and with --on local it "
            "says more"
        ) from error
    except ConnectionError as error:
        raise _gone(error) from error


class _InFlight:
    """Which actor has which shards in hand. One that has not begun has none."""

    def __init__(self, actors: list[Any], works: Iterator[Work]):
        self._works: Iterator[Work] | None = works
        self._again: collections.deque[Work] = collections.deque()
        self._free: collections.deque[Any] = collections.deque()
        self._in_hand: dict[Any, tuple[Any, Work | None]] = {}  # None: it is to come to life
        self._deaths: collections.Counter[int] = collections.Counter()
        self._unborn: collections.Counter[Any] = collections.Counter()
        self._last_word = ""  # of an actor that did not come to life
        self._away: set[Any] = set()
        for actor in actors:
            self._await(actor)

    def scored(self) -> Iterator[Scored]:
        """What became of each shard, as they end."""
        while True:
            self._give()
            at_work = any(work for _, work in self._in_hand.values())
            if not (at_work or self._again or self._works):
                return
            if not self._in_hand:
                raise _lifeless(self._last_word)
            ended = _ended([*self._in_hand])
            if not (ended or at_work):
                log.warning("no actor lives: waiting for Ray to place one (`ray status` says why)")
            for reference in ended:
                if one := self._taken(reference):
                    yield one

    def _give(self) -> None:
        while self._free:
            work = self._again.popleft() if self._again else self._next()
            if work is None:
                return
            actor = self._free.popleft()
            self._in_hand[actor.score.remote(work)] = actor, work

    def _next(self) -> Work | None:
        work = next(self._works, None) if self._works else None
        if work is None:
            self._works = None
        return work

    def _await(self, actor: Any) -> None:
        """Have an actor in hand again as soon as it lives."""
        self._away.add(actor)
        self._in_hand[actor.ready.options(max_task_retries=-1).remote()] = actor, None

    def _taken(self, reference: Any) -> Scored | None:
        actor, work = self._in_hand.pop(reference)
        try:
            told: Scored | None = _answer(reference)
        except ray().exceptions.RayError as error:
            self._lost(actor, work, error)
            return None
        if work is None:
            self._away.discard(actor)
            self._free.extend([actor] * IN_HAND)
        elif actor not in self._away:
            self._free.append(actor)
        return told

    def _lost(self, actor: Any, work: Work | None, error: Exception) -> None:
        """An actor has died, perhaps with a shard in hand, which is another's now."""
        self._free = collections.deque(one for one in self._free if one is not actor)
        why = _why(error)
        if work is None:
            self._lost_unborn(actor, why)
            return
        if actor not in self._away:
            self._await(actor)
        self._again.append(work)
        shard = work.shard.index
        self._deaths[shard] += 1
        log.warning("shard %d: given to another actor, its own has died (%s)", shard, why)
        if self._deaths[shard] == MOST_DEATHS:
            raise RunError(
                f"shard {shard}: {MOST_DEATHS} actors that had it in hand have died ({why}); "
                "give actors more memory, or score that shard on this machine to see why"
            )

    def _lost_unborn(self, actor: Any, why: str) -> None:
        """An actor does not come to life, which Ray says once it has given it up itself."""
        self._last_word = why
        self._unborn[actor] += 1
        log.warning("an actor does not come to life (%s)", why)
        if self._unborn[actor] < MOST_DEATHS:
            self._await(actor)
