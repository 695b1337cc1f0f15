"""Scoring on a Ray cluster of two nodes: complete and equal, also after failures."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import Trained
from e2e_fixtures import fill
from ray_cluster import QUIET, Cluster, end

from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings

pytest.importorskip("ray", reason="ray is not installed")
pytest_plugins = ["ray_cluster"]
pytestmark = pytest.mark.timeout(900)
# Slow enough to be interrupted: a shard of 20 images takes a twentieth of a second.
SLOW = ScoreSettings(batch_size=1, workers=1, shard_size=20, engine="torch")
OPTIONS = ["--batch-size", "1", "--workers", "1", "--shard-size", "20", "--engine", "torch"]
IMAGES = 1500
HOLDING = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
class Other:
    def ready(self): pass
other = Other.remote()
ray.get(other.ready.remote())
print("holding", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("ray") / "many", IMAGES)


@pytest.fixture(scope="module")
def whole(trained, many, tmp_path_factory) -> bytes:
    """The result of a local run."""
    output = tmp_path_factory.mktemp("whole") / "out"
    score_folder(str(many), "shapes", str(output), trained.store, SLOW)
    return (output / "predictions.csv").read_bytes()


def command(trained: Trained, source: object, output: object, *more: str, store: str = "") -> list:
    words = [sys.executable, "-m", "visionflows.cli", "score", str(source), "--model"]
    return [*words, "shapes", "--store", store or trained.store, "--output", str(output), *more]


def run(cluster: Cluster, words: list, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = cluster.environment | environment
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400)


def parts_of(output: Path) -> Iterator[bytes]:
    """The parts, the first with the header; joined they equal predictions.csv."""
    for number, part in enumerate(sorted(output.glob("parts/part-*.csv"))):
        data = part.read_bytes()
        yield data if not number else data[data.index(b"\n") + 1 :]


def parts(output: Path) -> int:
    return len(list(output.glob("parts/part-*.json")))


def test_two_nodes_give_the_bytes_of_one_machine(cluster, trained, many, whole, s3, tmp_path):
    """In S3; the tests below use a disk."""
    where = s3.uri
    on = ["--on", cluster.address, *OPTIONS]
    locations = where(many), where(tmp_path / "out")
    words = command(trained, *locations, *on, store=where(trained.store))
    done = run(cluster, words, **os.environ)
    assert done.returncode == 0, done.stderr
    assert "Ray: 2 actors on 2 nodes" in done.stderr
    assert (tmp_path / "out/predictions.csv").read_bytes() == whole
    pages = {"report.html", "review.html", "history.html"}
    assert {*os.listdir(tmp_path / "out")} == {
        "parts",
        "history",
        "predictions.csv",
        "run.json",
        *pages,
    }


@pytest.mark.parametrize("killed", ["raylet", "ray::ScoringActor"])
def test_shards_of_killed_processes_are_scored_elsewhere(
    cluster, trained, many, whole, tmp_path, killed
):
    words = command(trained, many, tmp_path / "out", "--on", cluster.address, *OPTIONS)
    log = tmp_path / "log"
    with log.open("w") as output:
        driver = subprocess.Popen(words, env=cluster.environment, stdout=output, stderr=output)
    wait_until(lambda: parts(tmp_path / "out") > 5, driver, log)
    victim = next(one for one in below(cluster.nodes[-1]) if killed in named(one))
    victim.send_signal(signal.SIGKILL)
    assert driver.wait(300) == 0, log.read_text()
    assert "resubmitted to another actor, because its actor died" in log.read_text()
    assert (tmp_path / "out/predictions.csv").read_bytes() == whole
    if killed == "raylet":
        end(cluster.nodes.pop())
        cluster.wait_for(1)  # the head has noticed
        cluster.add()
        cluster.wait_for(2)


def below(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(node.pid).children(recursive=True)


def named(process: psutil.Process) -> str:
    try:
        return " ".join([Path(process.exe()).name, *process.cmdline()[:1]])
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def wait_until(true: Callable[[], bool], driver: subprocess.Popen[bytes], log: Path) -> None:
    while not true():
        assert driver.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.02)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_local_run_resumes_the_output_of_a_stopped_driver(
    cluster, trained, many, whole, tmp_path, kind
):
    """Immediately, though actors may live half a minute longer than a killed driver."""
    words = command(trained, many, tmp_path / "out", "--on", cluster.address, *OPTIONS)
    log = tmp_path / "log"
    with log.open("w") as output:
        driver = subprocess.Popen(words, env=cluster.environment, stdout=output, stderr=output)
    wait_until(lambda: parts(tmp_path / "out") > 5, driver, log)
    driver.send_signal(kind)
    assert driver.wait(120) in (-signal.SIGKILL, 143)
    assert "Traceback" not in log.read_text()
    done = run(cluster, command(trained, many, tmp_path / "out", *OPTIONS))
    assert done.returncode == 0, done.stderr
    reused = int(re.search(r"in 75 shards, (\d+) of them already done", done.stderr)[1])
    assert 5 < reused < 75
    deadline = time.monotonic() + 90
    while any("ray::ScoringActor" in named(one) for node in cluster.nodes for one in below(node)):
        assert time.monotonic() < deadline, "its actors have not ended"
        time.sleep(0.2)
    # None of them has written since: the output is unchanged.
    assert (tmp_path / "out/predictions.csv").read_bytes() == whole
    assert b"".join(parts_of(tmp_path / "out")) == whole


def test_an_error_of_an_actor_is_one_line(cluster, trained, many, tmp_path):
    words = ["--on", cluster.address, "--precision", "int8"]
    done = run(cluster, command(trained, many, tmp_path / "out", *words))
    assert done.returncode == 2
    assert "precision int8: the model has no model.int8" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_node_with_another_visionflows_is_refused(cluster, trained, many, tmp_path):
    other = tmp_path / "site/visionflows-9.9.dist-info/METADATA"
    other.parent.mkdir(parents=True)
    other.write_text("Metadata-Version: 2.1\nName: visionflows\nVersion: 9.9\n")
    node = cluster.add(PYTHONPATH=str(tmp_path / "site"))
    cluster.wait_for(3)
    done = run(cluster, command(trained, many, tmp_path / "out", "--on", cluster.address))
    end(node)
    cluster.nodes.remove(node)
    cluster.wait_for(2)
    assert done.returncode == 2
    assert "has visionflows 9.9, this machine has" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "out").glob("parts/*.csv"))


@pytest.mark.skipif(not shutil.which("unshare") or os.getuid(), reason="no mounts of its own")
def test_a_location_that_a_node_cannot_see_is_refused(cluster, trained, many, tmp_path):
    """A node with a local folder at the path of the output, as on separate machines."""
    (tmp_path / "out").mkdir()
    words = (f"--address=127.0.0.1:{cluster.ports[0]}", "--num-cpus=1", *QUIET)
    ray = f"{sys.executable} -m ray.scripts.scripts start --node-ip-address=127.0.0.1 "
    script = f"mount -t tmpfs none {tmp_path / 'out'} && exec {ray} {' '.join(words)}"
    with (cluster.folder / "ray.log").open("a") as log:
        node = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            env=cluster.environment,
            stdout=log,
            stderr=log,
        )
    try:
        cluster.wait_for(3)
        done = run(cluster, command(trained, many, tmp_path / "out", "--on", cluster.address))
    finally:
        end(node)
        cluster.wait_for(2)
    assert done.returncode == 1
    assert "does not see it; use S3" in done.stderr.splitlines()[-1]
    assert [*(tmp_path / "out").glob("parts/*.csv"), *(tmp_path / "out").glob(".seen*")] == []


def test_a_run_does_not_wait_for_an_actor_without_resources(cluster, trained, tmp_path):
    """Another job uses a core of one node; and a list may begin with a missing file."""
    names = [f"{number:02d}.png" for number in range(40)]
    folder = fill(tmp_path / "some", 40)
    for number, name in enumerate(names):
        (folder / f"{number:05d}.png").rename(folder / name)
    (folder / "00.png").unlink()
    (folder / "list.txt").write_text("\n".join(names))
    address = f"127.0.0.1:{cluster.ports[0]}"
    held = subprocess.Popen(
        [sys.executable, "-c", HOLDING, address],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdout is not None
    assert held.stdout.readline() == "holding\n"
    try:
        words = command(trained, folder / "list.txt", tmp_path / "out", "--on", cluster.address)
        done = run(cluster, [*words, *OPTIONS])
    finally:
        held.kill()
        held.wait()
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "out/predictions.csv").read_text().splitlines()
    assert (len(rows), rows[1].startswith("00.png,missing,")) == (41, True)


def test_a_local_ray_ends_with_the_run(trained, many, whole, tmp_path):
    before = raylets()
    words = command(trained, many, tmp_path / "out", "--on", "ray", *OPTIONS)
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/predictions.csv").read_bytes() == whole
    assert raylets() <= before


def raylets() -> set[int]:
    found = psutil.process_iter(["name"])
    return {one.pid for one in found if one.info["name"] in ("raylet", "gcs_server")}


def test_a_missing_cluster_is_an_error_of_one_line(trained, many, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        words = ["--on", f"ray://127.0.0.1:{closed.getsockname()[1]}"]
        done = subprocess.run(
            command(trained, many, tmp_path / "out", *words), capture_output=True, text=True
        )
    assert done.returncode == 1
    assert "cannot connect to the cluster" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
