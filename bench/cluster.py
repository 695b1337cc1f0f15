"""Scoring on Ray: its rate beside the engine of this machine, and what is killed in mid-run.

    python bench/cluster.py --photos inbox --model pets --store store --files 20000
    python bench/cluster.py … --kills 10 --kill raylet actor driver --sides

`local` is the command without Ray, and `core` the same pinned to one core; `ray` one actor with all
cores; `one` and `two` are raylets of a core each, pinned to it. `local/core` says what a machine's
second core is worth: virtual ones share much, and `two/one` can be no more. A rate is that of
run.json: from the listing to the result. A run in which a raylet or an actor is killed goes on by
itself; after its driver is, the same command goes on with `--on local`. Results, with versions and
hardware: bench/results/.
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
from record import hardware, versions, written

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
    parser.add_argument("--files", type=int, default=20_000, help="hard links of the photos")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=SIDES)
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=0, help="runs in which something is killed")
    parser.add_argument("--kill", nargs="+", choices=KILL, default=["raylet"], help="of each kind")
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.update(token, RAY_USAGE_STATS_ENABLED="0")
    with tempfile.TemporaryDirectory(dir=Path(options.photos).absolute().parent) as root:
        photos = links(Path(options.photos), Path(root) / "in", options.files)
        told = {"files": options.files, "shard_size": options.shard_size, "model": options.model}
        told |= _rates(options, photos, Path(root)) if options.sides else {}
        told |= _kills(options, photos, Path(root)) if options.kills else {}
    about = {"hardware": hardware(), "versions": versions("ray", "openvino", "pillow")}
    written({**about, **told}, options.results, "cluster")


def links(photos: Path, folder: Path, count: int) -> Path:
    """So many files, hard links of the photos, a thousand a folder."""
    names = sorted(photos.resolve().iterdir())
    for at in range(count):
        name = folder / f"{at // 1000:04d}" / f"{at:07d}{names[at % len(names)].suffix}"
        name.parent.mkdir(parents=True, exist_ok=True)
        os.link(names[at % len(names)].resolve(), name)
    return folder


def _command(options, photos: Path, output: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "visionflows.cli", "score", str(photos)]
    words += ["--model", options.model, "--store", options.store, "--output", str(output)]
    return [*words, "--shard-size", str(options.shard_size), *more]


def _rates(options, photos: Path, root: Path) -> dict:
    rounds: dict[str, list[float]] = {side: [] for side in options.sides}
    whole: dict[str, list[float]] = {side: [] for side in options.sides}
    bytes_of = set()
    for _ in range(options.rounds):
        for side in options.sides:
            output = root / "out"
            with _cluster({"one": 1, "two": 2}.get(side, 0), root) as address:
                on = {"local": "local", "core": "local", "ray": "ray"}.get(side, address)
                pinned = [*PINNED, "0"] if side == "core" else []
                began = time.perf_counter()
                words = [*pinned, *_command(options, photos, output, "--on", on)]
                subprocess.run(words, check=True)
                whole[side].append(round(time.perf_counter() - began, 1))
            run = json.loads((output / "run.json").read_text())
            rounds[side].append(run["timings"]["images_per_second"])
            bytes_of.add((output / "predictions.csv").read_bytes())
            shutil.rmtree(output)
            print(side, rounds[side][-1], whole[side][-1], flush=True)
    rates = {side: statistics.median(values) for side, values in rounds.items()}
    ratios = {
        f"{side}/{other}": round(rates[side] / rates[other], 3)
        for side, other in (("ray", "local"), ("two", "one"), ("two", "local"), ("local", "core"))
        if {side, other} <= rates.keys()
    }
    told = {"images_per_second": rates, "rounds": rounds, "seconds_of_the_command": whole}
    return {**told, "ratios": ratios, "equal_bytes": len(bytes_of) == 1}


@contextlib.contextmanager
def _cluster(nodes: int, root: Path) -> Iterator[str]:
    """A head without cores, and so many raylets, each pinned to a core of its own."""
    if not nodes:
        yield ""
        return
    folder = Path(tempfile.mkdtemp(prefix="vf-"))  # its sockets' names have to be short
    begun: list[subprocess.Popen] = []
    try:
        if not any(_whole(begun, nodes, folder / str(number), root) for number in range(3)):
            raise SystemExit(f"no cluster of {nodes} nodes began; {root}/ray.log says why")
        yield f"ray://127.0.0.1:{PORTS[1]}"
    finally:
        _end_all(begun)
        shutil.rmtree(folder, ignore_errors=True)


def _whole(begun: list[subprocess.Popen], nodes: int, folder: Path, root: Path) -> bool:
    """Whether a cluster has all its nodes, begun anew; a raylet may not find its head in time."""
    _end_all(begun)
    words = ["--head", f"--port={PORTS[0]}", f"--ray-client-server-port={PORTS[1]}"]
    words += ["--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}"]
    with (root / "ray.log").open("ab") as log:
        begun.append(subprocess.Popen([*RAY, *words, *QUIET], stdout=log, stderr=log))
    if not _has_nodes(1):
        return False
    begun += [_node(core, root) for core in range(nodes)]
    return _has_nodes(1 + nodes)


def _node(core: int, root: Path) -> subprocess.Popen:
    words = [f"--address=127.0.0.1:{PORTS[0]}", "--num-cpus=1", *QUIET]
    with (root / "ray.log").open("ab") as log:
        pinned = [*PINNED, str(core), *RAY, *words]
        return subprocess.Popen(pinned, stdout=log, stderr=log)


def _has_nodes(count: int) -> bool:
    """Whether the head knows of so many nodes within half a minute, itself among them."""
    words = [*RAY[:3], "status", f"--address=127.0.0.1:{PORTS[0]}"]
    for _ in range(30):
        told = subprocess.run(words, capture_output=True, text=True)
        if len(re.findall(r"^ 1 node_", told.stdout, re.MULTILINE)) == count:
            return True
        time.sleep(1)
    return False


def _end_all(begun: list[subprocess.Popen]) -> None:
    while begun:
        _end(begun.pop())


def _end(process: subprocess.Popen) -> None:
    for one in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait()


class Whole(NamedTuple):
    """A run that nothing was killed in: its bytes, how many shards it has, seconds of each."""

    data: bytes
    shards: int
    pace: float


def _kills(options, photos: Path, root: Path) -> dict:
    """Runs on two raylets in which something is killed at a random moment, and what came of it."""
    subprocess.run(_command(options, photos, root / "whole"), check=True)
    shards = _parts(root / "whole")
    seconds = json.loads((root / "whole/run.json").read_text())["timings"]["seconds"]
    whole = Whole((root / "whole/predictions.csv").read_bytes(), shards, seconds / shards)
    killed = {}
    for what in options.kill:
        chance, runs = random.Random(14 + KILL.index(what)), []
        for number in range(options.kills):
            with _cluster(2, root) as address:
                runs.append(_killed(what, options, photos, address, whole, chance))
            print(f"{what} {number}: {json.dumps(runs[-1])}", flush=True)
            shutil.rmtree(root / "out")
        equal = sum(one["whole_and_equal"] for one in runs)
        killed[what] = {"whole_and_equal": equal, "runs": runs}
    return {"kills": options.kills, "shards": shards, "killed": killed}


def _killed(what: str, options, photos: Path, address: str, whole: Whole, chance) -> dict:
    """One such run. After its driver was killed, the same command goes on without the cluster."""
    output = photos.parent / "out"
    driver = _begun(_command(options, photos, output, "--on", address))
    _wait(what, driver, output, whole, chance)
    there = _parts(output)
    hit = _kill(what, driver, chance)
    _, said = driver.communicate()
    if what == "driver" and hit:
        driver = _begun(_command(options, photos, output, "--on", "local"))
        _, said = driver.communicate()
    done = driver.returncode == 0 and (output / "predictions.csv").read_bytes() == whole.data
    told = {"killed": hit, "at_part": there, "whole_and_equal": done}
    if what != "driver":
        return {**told, "shards_redone": said.count("resubmitted to another actor")}
    # What the actors had in hand nobody can tell: only what lay there and was done once more, and
    # what they still wrote before the second run had the output.
    scored = json.loads((output / "run.json").read_text())["timings"]["scored"] if done else 0
    again = -(-scored // options.shard_size)
    more = {"by_the_second_run": again, "by_actors_meanwhile": max(whole.shards - again - there, 0)}
    return {**told, "shards_redone": max(there + again - whole.shards, 0), **more}


def _begun(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _parts(output: Path) -> int:
    return len([*output.glob("parts/part-*.json")])


def _wait(what: str, driver: subprocess.Popen, output: Path, whole: Whole, chance) -> None:
    """Until some parts are there; and then, but for a raylet, for a part of a shard's time."""
    done = chance.randrange(1, whole.shards - 1)
    while _parts(output) < done and driver.poll() is None:
        time.sleep(0.02)
    if what != "raylet":
        time.sleep(chance.uniform(0, whole.pace))


def _kill(what: str, driver: subprocess.Popen, chance) -> bool:
    """Kill the driver, a raylet that has a core, or an actor; false where the run has ended."""
    if driver.poll() is not None:
        return False
    if what == "driver":
        driver.kill()
        return True
    found = psutil.Process().children(recursive=True)
    kinds = {"raylet": _is_raylet, "actor": _is_actor}
    chance.choice([one for one in found if _is(kinds[what], one)]).send_signal(signal.SIGKILL)
    return True


def _is(kind: Callable[[list[str]], bool], process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return kind([process.name(), *process.cmdline()])
    return False


def _is_raylet(words: list[str]) -> bool:
    """Whether it is a raylet that has a core to give."""
    return words[0] == "raylet" and "CPU,1" in " ".join(words) and "--head" not in words


def _is_actor(words: list[str]) -> bool:
    return any(word.startswith("ray::ScoringActor") for word in words)


if __name__ == "__main__":
    main()
