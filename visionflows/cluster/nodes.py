"""A Ray cluster: connect to it, list its nodes, and check that each sees the files of a run."""

import contextlib
import importlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType
from typing import Any, NamedTuple

import tenacity

from visionflows.errors import ServerError, SettingsError, StorageError, one_line

_LOCAL = "ray"  # start Ray on this machine; it ends with the run


class Node(NamedTuple):
    """A live node."""

    id: str
    name: str
    cores: int
    gpus: int


def import_ray() -> ModuleType:
    """The module ray, without its usage statistics. Raises SettingsError if it is missing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SettingsError(
            f"on ray: Ray cannot be imported ({one_line(str(error))}); "
            "pip install 'visionflows[ray]', or use --on local"
        ) from error


@contextlib.contextmanager
def connected(on: str) -> Iterator[None]:
    """Connect to a cluster for the block; the actors end with it. `local` needs none.

    Raises ServerError.
    """
    if on == "local":
        yield
        return
    ray = import_ray()
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    options |= {"include_dashboard": False} if on == _LOCAL else {}
    # A busy head node needs more than the 30 seconds it allows itself to start a driver's server.
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ConnectionAbortedError),
        stop=tenacity.stop_after_attempt(3),
        reraise=True,
    )
    handler = signal.getsignal(signal.SIGTERM)
    try:
        retry(ray.init, address="local" if on == _LOCAL else on, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if "AF_UNIX path length" in str(error):
            raise SettingsError(
                f"TMPDIR={tempfile.gettempdir()}: too long for Ray, whose sockets have at most 107 "
                "characters; set a shorter TMPDIR"
            ) from error
        raise ServerError(
            f"on {on}: cannot connect to the cluster ({one_line(str(error))}); is it up, with the "
            "Python, Ray, RAY_AUTH_MODE and RAY_AUTH_TOKEN of this machine?"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's handler exits without an error line
    try:
        yield
    finally:
        ray.shutdown()


def list_nodes() -> list[Node]:
    """The live nodes. Raises ServerError if none has a CPU."""
    nodes = []
    for node in import_ray().nodes():
        resources = node["Resources"]
        if node["Alive"]:
            cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
            nodes.append(Node(node["NodeID"], node["NodeManagerHostname"], cores, gpus))
    if not any(node.cores for node in nodes):
        raise ServerError("on ray: no node of the cluster has a CPU; add one that has")
    return nodes


def check_nodes(nodes: list[Node], *paths: list[str]) -> None:
    """Raise SettingsError for a node with another version.

    Raises StorageError for a node that sees no path of one of the lists, unless that is empty.
    """
    version = metadata.version("visionflows")
    given = [some for some in paths if some]
    for node, (found, missing) in zip(nodes, _inspect(nodes, given), strict=True):
        if found != version:
            has = f"has visionflows {found}" if found else "has no visionflows"
            raise SettingsError(
                f"on ray: node {node.name} {has}, this machine has {version}; install that version"
            )
        if missing and node.cores:
            raise StorageError(
                f"{missing[0]}: node {node.name} of the cluster does not see it; use S3, or a "
                "disk that all nodes mount at the same path"
            )


def _inspect(nodes: list[Node], paths: list[list[str]]) -> list[tuple[str, list[str]]]:
    """The version of visionflows on each node, and the first of each list of paths it misses."""
    ray = import_ray()
    scheduling = importlib.import_module("ray.util.scheduling_strategies")

    # A nested function is sent by value: the node may not have visionflows.
    def inspect(paths: list[list[str]]) -> tuple[str, list[str]]:
        import os
        from importlib import metadata

        try:
            version = metadata.version("visionflows")
        except metadata.PackageNotFoundError:
            version = ""
        return version, [some[0] for some in paths if not any(map(os.path.exists, some))]

    task = ray.remote(num_cpus=0, max_retries=0)(inspect)
    tasks = [
        task.options(
            scheduling_strategy=scheduling.NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(paths)
        for node in nodes
    ]
    try:
        found: list[tuple[str, list[str]]] = ray.get(tasks, timeout=60)
    except ray.exceptions.RayError as error:
        raise ServerError(
            f"on ray: a node does not answer ({one_line(str(error))}); see `ray status`"
        ) from error
    return found
