"""Measure scoring on Ray: its rate beside a local run, and recovery from killed processes.

    python bench/cluster.py --photos inbox --model pets --store store --files 20000
    python bench/cluster.py … --kills 10 --kill raylet actor driver --sides

Sides:

    local    the command without Ray
    core     the same, pinned to one core
    ray      one actor with all cores
    one      one raylet, pinned to one core
    two      two raylets, each pinned to one core

`local/core` is the speedup of the machine's second core, the upper bound of `two/one`. A rate is
images_per_second of run.json: from the listing to the result. A run continues when a raylet or an
actor is killed. After the driver is killed, the same command resumes with `--on local`. Results,
with versions and hardware: bench/results/.
"""

import argparse
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from record import hardware, versions, write_result

PORTS = 6399, 9877
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address=127.0.0.1"]
QUIET = ["--disable-usage-stats", "--object-store-memory=80000000", "--block"]
SIDES = ("local", "core", "ray", "one", "two")
PINNED = ["taskset", "--cpu-list"]
KILL = ("raylet", "actor", "driver")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument(
        "--files", type=int, default=20_000, help="number of hard links to the photos"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=SIDES)
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument(
        "--kills", type=int, default=0, help="runs with a killed process, for each --kill"
    )
    parser.add_argument(
        "--kill", nargs="+", choices=KILL, default=["raylet"], help="processes to kill"
    )
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.update(token, RAY_USAGE_STATS_ENABLED="0")
    with tempfile.TemporaryDirectory(dir=Path(options.photos).absolute().parent) as root:
        photos = links(Path(options.photos), Path(root) / "in", options.files)
        result = {"files": options.files, "shard_size": options.shard_size, "model": options.model}
        result |= _rates(options, photos, Path(root)) if options.sides else {}
        result |= _kills(options, photos, Path(root)) if options.kills else {}
    about = {"hardware": hardware(), "versions": versions("ray", "openvino", "pillow")}
    write_result({**about, **result}, options.results, "cluster")


def links(photos: Path, folder: Path, count: int) -> Path:
    """Create `count` hard links to the photos, 1,000 a folder."""
    names = sorted(photos.resolve().iterdir())
    for at in range(count):
        name = folder / f"{at // 1000:04d}" / f"{at:07d}{names[at % len(names)].suffix}"
        name.parent.mkdir(parents=True, exist_ok=True)
        os.link(names[at % len(names)].resolve(), name)
    return folder


def _command(options, photos: Path, output: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "visionflows.cli", "score", str(photos)]
    command += ["--model", options.model, "--store", options.store, "--output", str(output)]
    return [*command, "--shard-size", str(options.shard_size), *more]


def _rates(options, photos: Path, root: Path) -> dict:
    rounds: dict[str, list[float]] = {side: [] for side in options.sides}
    command_seconds: dict[str, list[float]] = {side: [] for side in options.sides}
    csv_bytes = set()
    for _ in range(options.rounds):
        for side in options.sides:
            output = root / "out"
            with _cluster({"one": 1, "two": 2}.get(side, 0), root) as address:
                on = {"local": "local", "core": "local", "ray": "ray"}.get(side, address)
                pinned = [*PINNED, "0"] if side == "core" else []
                start = time.perf_counter()
                command = [*pinned, *_command(options, photos, output, "--on", on)]
                subprocess.run(command, check=True)
                command_seconds[side].append(round(time.perf_counter() - start, 1))
            run = json.loads((output / "run.json").read_text())
            rounds[side].append(run["timings"]["images_per_second"])
            csv_bytes.add((output / "predictions.csv").read_bytes())
            shutil.rmtree(output)
            print(side, rounds[side][-1], command_seconds[side][-1], flush=True)
    rates = {side: statistics.median(values) for side, values in rounds.items()}
    ratios = {
        f"{side}/{other}": round(rates[side] / rates[other], 3)
        for side, other in (("ray", "local"), ("two", "one"), ("two", "local"), ("local", "core"))
        if {side, other} <= rates.keys()
    }
    return {
        "images_per_second": rates,
        "rounds": rounds,
        "seconds_of_the_command": command_seconds,
        "ratios": ratios,
        "equal_bytes": len(csv_bytes) == 1,
    }


@contextlib.contextmanager
def _cluster(nodes: int, root: Path) -> Iterator[str]:
    """Start a head without cores and `nodes` raylets, each pinned to one core."""
    if not nodes:
        yield ""
        return
    folder = Path(tempfile.mkdtemp(prefix="vf-"))  # socket paths must be short
    started: list[subprocess.Popen] = []
    try:
        if not any(
            _start_cluster(started, nodes, folder / str(number), root) for number in range(3)
        ):
            raise SystemExit(f"the cluster of {nodes} nodes did not start; see {root}/ray.log")
        yield f"ray://127.0.0.1:{PORTS[1]}"
    finally:
        _end_all(started)
        shutil.rmtree(folder, ignore_errors=True)


def _start_cluster(started: list[subprocess.Popen], nodes: int, folder: Path, root: Path) -> bool:
    """Restart the cluster, and return whether all its nodes joined in time."""
    _end_all(started)
    arguments = ["--head", f"--port={PORTS[0]}", f"--ray-client-server-port={PORTS[1]}"]
    arguments += ["--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}"]
    with (root / "ray.log").open("ab") as log:
        started.append(subprocess.Popen([*RAY, *arguments, *QUIET], stdout=log, stderr=log))
    if not _has_nodes(1):
        return False
    started += [_node(core, root) for core in range(nodes)]
    return _has_nodes(1 + nodes)


def _node(core: int, root: Path) -> subprocess.Popen:
    arguments = [f"--address=127.0.0.1:{PORTS[0]}", "--num-cpus=1", *QUIET]
    with (root / "ray.log").open("ab") as log:
        command = [*PINNED, str(core), *RAY, *arguments]
        return subprocess.Popen(command, stdout=log, stderr=log)


def _has_nodes(count: int) -> bool:
    """Whether the head reports `count` nodes, itself included, within 30 seconds."""
    command = [*RAY[:3], "status", f"--address=127.0.0.1:{PORTS[0]}"]
    for _ in range(30):
        status = subprocess.run(command, capture_output=True, text=True)
        if len(re.findall(r"^ 1 node_", status.stdout, re.MULTILINE)) == count:
            return True
        time.sleep(1)
    return False


def _end_all(started: list[subprocess.Popen]) -> None:
    while started:
        _end(started.pop())


def _end(process: subprocess.Popen) -> None:
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait()


class Reference(NamedTuple):
    """A run without a kill: its CSV, its shards, and seconds a shard."""

    data: bytes
    shards: int
    shard_seconds: float


def _kills(options, photos: Path, root: Path) -> dict:
    """Kill a process at a random moment of runs on two raylets, and return the results."""
    subprocess.run(_command(options, photos, root / "whole"), check=True)
    shards = _parts(root / "whole")
    seconds = json.loads((root / "whole/run.json").read_text())["timings"]["seconds"]
    reference = Reference((root / "whole/predictions.csv").read_bytes(), shards, seconds / shards)
    killed = {}
    for what in options.kill:
        rng, runs = random.Random(14 + KILL.index(what)), []
        for number in range(options.kills):
            with _cluster(2, root) as address:
                runs.append(_killed(what, options, photos, address, reference, rng))
            print(f"{what} {number}: {json.dumps(runs[-1])}", flush=True)
            shutil.rmtree(root / "out")
        equal = sum(run["whole_and_equal"] for run in runs)
        killed[what] = {"whole_and_equal": equal, "runs": runs}
    return {"kills": options.kills, "shards": shards, "killed": killed}


def _killed(what: str, options, photos: Path, address: str, reference: Reference, rng) -> dict:
    """Run with one kill. After the driver is killed, resume without the cluster."""
    output = photos.parent / "out"
    driver = _start(_command(options, photos, output, "--on", address))
    _wait(what, driver, output, reference, rng)
    parts = _parts(output)
    hit = _kill(what, driver, rng)
    _, log = driver.communicate()
    if what == "driver" and hit:
        driver = _start(_command(options, photos, output, "--on", "local"))
        _, log = driver.communicate()
    done = driver.returncode == 0 and (output / "predictions.csv").read_bytes() == reference.data
    result = {"killed": hit, "at_part": parts, "whole_and_equal": done}
    if what != "driver":
        return {**result, "shards_redone": log.count("resubmitted to another actor")}
    # The shards in flight are unknown. Count the parts that were scored again, and the parts that
    # actors wrote before the second run locked the output.
    scored = json.loads((output / "run.json").read_text())["timings"]["scored"] if done else 0
    second_run = -(-scored // options.shard_size)
    return {
        **result,
        "shards_redone": max(parts + second_run - reference.shards, 0),
        "by_the_second_run": second_run,
        "by_actors_meanwhile": max(reference.shards - second_run - parts, 0),
    }


def _start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _parts(output: Path) -> int:
    return len([*output.glob("parts/part-*.json")])


def _wait(what: str, driver: subprocess.Popen, output: Path, reference: Reference, rng) -> None:
    """Wait until some parts exist; unless for a raylet, also for a random part of a shard."""
    done = rng.randrange(1, reference.shards - 1)
    while _parts(output) < done and driver.poll() is None:
        time.sleep(0.02)
    if what != "raylet":
        time.sleep(rng.uniform(0, reference.shard_seconds))


def _kill(what: str, driver: subprocess.Popen, rng) -> bool:
    """Kill the driver, a raylet with a core, or an actor; false if the run has ended."""
    if driver.poll() is not None:
        return False
    if what == "driver":
        driver.kill()
        return True
    processes = psutil.Process().children(recursive=True)
    kinds = {"raylet": _is_raylet, "actor": _is_actor}
    rng.choice([process for process in processes if _is(kinds[what], process)]).send_signal(
        signal.SIGKILL
    )
    return True


def _is(kind: Callable[[list[str]], bool], process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return kind([process.name(), *process.cmdline()])
    return False


def _is_raylet(command: list[str]) -> bool:
    """Whether a process is a raylet with a core."""
    return command[0] == "raylet" and "CPU,1" in " ".join(command) and "--head" not in command


def _is_actor(command: list[str]) -> bool:
    return any(word.startswith("ray::ScoringActor") for word in command)


if __name__ == "__main__":
    main()
