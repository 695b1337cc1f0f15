"""A Ray cluster: how it is reached, what its nodes are, and whether they see what a run needs.

with connected("ray://head:10001"):
    check_nodes(nodes(), [["/store/models/pets/1/model.json"]])
"""

import contextlib
import importlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import Any, NamedTuple

from visionflows.errors import ServerError, SettingsError, StorageError, one_line

_OURS = "ray"  # a Ray of this machine's own, which ends with the run
_WAIT = 60.0  # seconds in which a node must say what it sees


class Node(NamedTuple):
    """A node that can be given work."""

    id: str
    name: str
    cores: int
    gpus: int


def ray() -> ModuleType:
    """Ray, which tells nobody that it is used. Raises SettingsError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SettingsError(
            f"on ray: Ray cannot be imported ({one_line(str(error))}); "
            "pip install 'visionflows[ray]', or leave it to `local`"
        ) from error


@contextlib.contextmanager
def connected(on: str) -> Iterator[None]:
    """A driver of the cluster for the block; its actors end with it. Raises ServerError."""
    import tenacity

    module = ray()
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if on == _OURS:
        options["include_dashboard"] = False
    # A head that is busy misses the half minute that it gives itself for a driver's own server.
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ConnectionAbortedError),
        stop=tenacity.stop_after_attempt(3),
        reraise=True,
    )
    stopped = signal.getsignal(signal.SIGTERM)
    try:
        again(module.init, address="local" if on == _OURS else on, **options)
    except (OSError, RuntimeError, ValueError, module.exceptions.RayError) as error:
        raise ServerError(
            f"on {on}: no cluster that can be used answers there ({one_line(str(error))}); is it "
            "up, with this Python, this Ray, and RAY_AUTH_MODE and RAY_AUTH_TOKEN as here?"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stopped)  # Ray's own would end us without a word
    try:
        yield
    finally:
        module.shutdown()


def nodes() -> list[Node]:
    """The nodes that live. Raises ServerError where none has a core to give."""
    found = []
    for told in ray().nodes():
        has, name = told["Resources"], told["NodeManagerHostname"]
        if told["Alive"]:
            given = int(has.get("CPU", 0)), int(has.get("GPU", 0))
            found.append(Node(told["NodeID"], name, *given))
    if not any(node.cores for node in found):
        raise ServerError("on ray: the cluster has no node with a core to give; add one")
    return found


def check_nodes(found: list[Node], paths: list[list[str]]) -> None:
    """Nothing, if all nodes have this visionflows, and who has cores sees one of each of the paths.

    Raises SettingsError for another version, and PlaceError for a path on a disk of one machine.
    """
    ours = metadata.version("visionflows")
    for node, (theirs, unseen) in zip(found, _visits(found, paths), strict=True):
        if theirs != ours:
            has = f"has visionflows {theirs}" if theirs else "has no visionflows"
            raise SettingsError(f"on ray: node {node.name} {has}, this machine {ours}; install it")
        if unseen and node.cores:
            raise StorageError(
                f"{unseen[0]}: node {node.name} of the cluster does not see it; name a place in "
                "S3, or on a disk that all nodes share at the same path"
            )


def _visits(found: list[Node], paths: list[list[str]]) -> list[tuple[str, list[str]]]:
    """What each node says: its version of visionflows, and which paths it does not see."""
    module = ray()
    affinity = importlib.import_module("ray.util.scheduling_strategies")

    # Sent by value: it may not know us there.
    def visit(paths: list[list[str]]) -> tuple[str, list[str]]:
        import os
        from importlib import metadata

        try:
            version = metadata.version("visionflows")
        except metadata.PackageNotFoundError:
            version = ""
        return version, [some[0] for some in paths if not any(map(os.path.exists, some))]

    remote = module.remote(num_cpus=0, max_retries=0)(visit)
    asked = [
        remote.options(
            scheduling_strategy=affinity.NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(paths)
        for node in found
    ]
    try:
        told: list[tuple[str, list[str]]] = module.get(asked, timeout=_WAIT)
    except module.exceptions.RayError as error:
        raise ServerError(
            f"on ray: a node does not say what it sees ({one_line(str(error))}); see `ray status`"
        ) from error
    return told
