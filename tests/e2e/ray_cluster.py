"""A Ray cluster on this machine: a head without cores, and raylets of one core each.

pytest_plugins = ["ray_cluster"]
def test_something(cluster): run(cluster, ["visionflows", "score", …, "--on", cluster.address])
"""

import dataclasses
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

# Waits until a cluster has a number of cores.
WAITING = """
import sys, time, ray
for _ in range(120):
    try:
        ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
        break
    except ConnectionError:
        time.sleep(0.5)
deadline = time.monotonic() + 120
while int(ray.cluster_resources().get("CPU", 0)) != int(sys.argv[2]):
    assert time.monotonic() < deadline, ray.nodes()
    time.sleep(0.2)
"""
QUIET = ("--disable-usage-stats", "--object-store-memory=80000000", "--block")


@dataclasses.dataclass
class Cluster:
    """A head without cores, and two nodes of one core; `environment` lets a driver in."""

    folder: Path
    ports: tuple[int, int]
    environment: dict[str, str]
    nodes: list[subprocess.Popen[bytes]] = dataclasses.field(default_factory=list)

    @property
    def address(self) -> str:
        return f"ray://127.0.0.1:{self.ports[1]}"

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *QUIET]
        with (self.folder / "ray.log").open("a") as log:
            return subprocess.Popen(
                command, env=self.environment | environment, stdout=log, stderr=log
            )

    def add(self, cores: int = 1, **environment: str) -> subprocess.Popen[bytes]:
        words = (f"--address=127.0.0.1:{self.ports[0]}", f"--num-cpus={cores}")
        node = self.start("--node-ip-address=127.0.0.1", *words, **environment)
        self.nodes.append(node)
        return node

    def wait_for(self, cores: int) -> None:
        """Wait until the live nodes have this many cores in total."""
        done = subprocess.run(
            [sys.executable, "-c", WAITING, f"127.0.0.1:{self.ports[0]}", str(cores)],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.stderr, (self.folder / "ray.log").read_text()[-3000:])


def free_ports() -> tuple[int, int]:
    """Two ports below those of Ray's workers."""
    found = []
    for port in range(7000 + secrets.randbelow(2000), 9900):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == 2:
            break
    return found[0], found[1]


@pytest.fixture(scope="module")
def cluster(s3_server) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="vf-ray-"))  # socket paths must be short
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    variables |= {"VISIONFLOWS_CACHE": str(folder / "cache"), **s3_server.environment}
    result = Cluster(folder, free_ports(), os.environ | variables)
    ports = (f"--port={result.ports[0]}", f"--ray-client-server-port={result.ports[1]}")
    words = ("--head", "--node-ip-address=127.0.0.1", "--num-cpus=0", f"--temp-dir={folder / 'r'}")
    head = result.start(*words, *ports, "--include-dashboard=false")
    try:
        result.wait_for(0)
        for cores in (1, 2):
            result.add()
            result.wait_for(cores)
        yield result
    finally:
        for one in (*result.nodes, head):
            end(one)
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a node and all its child processes."""
    if process.poll() is None:
        for one in (*psutil.Process(process.pid).children(recursive=True), process):
            with_no_such(one.kill)
    process.wait()


def with_no_such(call: Callable[[], None]) -> None:
    try:
        call()
    except psutil.NoSuchProcess:
        return
