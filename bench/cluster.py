"""Scoring on Ray: its rate beside the engine of this machine, and raylets killed in mid-run.

    python bench/cluster.py --photos inbox --model pets --store store --files 20000
    python bench/cluster.py … --kills 10 --sides

`local` is the command without Ray; `ray` one actor with all cores; `one` and `two` are raylets of a
core each, pinned to it. A rate is that of run.json: from the listing to the result. Results, with
versions and hardware: bench/results/.
"""

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from record import hardware, versions, written

PORTS = 6399, 9877
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address=127.0.0.1"]
QUIET = ["--disable-usage-stats", "--object-store-memory=80000000", "--block"]
SIDES = ("local", "ray", "one", "two")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--files", type=int, default=20_000, help="hard links of the photos")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=SIDES)
    parser.add_argument("--kills", type=int, default=0, help="runs in which a raylet is killed")
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.update(token, RAY_USAGE_STATS_ENABLED="0")
    with tempfile.TemporaryDirectory(dir=Path(options.photos).absolute().parent) as root:
        photos = _links(Path(options.photos), Path(root) / "in", options.files)
        told = {"files": options.files, "model": options.model}
        told |= _rates(options, photos, Path(root)) if options.sides else {}
        told |= _kills(options, photos, Path(root)) if options.kills else {}
    about = {"hardware": hardware(), "versions": versions("ray", "openvino", "pillow")}
    written({**about, **told}, options.results, "cluster")


def _links(photos: Path, folder: Path, count: int) -> Path:
    """So many files, hard links of the photos, a thousand a folder."""
    names = sorted(photos.resolve().iterdir())
    for at in range(count):
        name = folder / f"{at // 1000:04d}" / f"{at:07d}{names[at % len(names)].suffix}"
        name.parent.mkdir(parents=True, exist_ok=True)
        os.link(names[at % len(names)].resolve(), name)
    return folder


def _command(options, photos: Path, output: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "visionflows.cli.main", "score", str(photos)]
    words += ["--model", options.model, "--store", options.store, "--output", str(output)]
    return [*words, *more]


def _rates(options, photos: Path, root: Path) -> dict:
    rounds: dict[str, list[float]] = {side: [] for side in options.sides}
    whole: dict[str, list[float]] = {side: [] for side in options.sides}
    bytes_of = set()
    for _ in range(options.rounds):
        for side in options.sides:
            output = root / "out"
            with _cluster({"one": 1, "two": 2}.get(side, 0), root) as address:
                on = {"local": "local", "ray": "ray"}.get(side, address)
                began = time.perf_counter()
                subprocess.run(_command(options, photos, output, "--on", on), check=True)
                whole[side].append(round(time.perf_counter() - began, 1))
            run = json.loads((output / "run.json").read_text())
            rounds[side].append(run["timings"]["images_per_second"])
            bytes_of.add((output / "predictions.csv").read_bytes())
            shutil.rmtree(output)
            print(side, rounds[side][-1], whole[side][-1], flush=True)
    rates = {side: statistics.median(values) for side, values in rounds.items()}
    ratios = {
        f"{side}/{other}": round(rates[side] / rates[other], 3)
        for side, other in (("ray", "local"), ("two", "one"), ("two", "local"))
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
    words = ["--head", f"--port={PORTS[0]}", f"--ray-client-server-port={PORTS[1]}"]
    words += ["--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder / 'r'}"]
    with (root / "ray.log").open("a") as log:
        begun = [subprocess.Popen([*RAY, *words, *QUIET], stdout=log, stderr=log)]
    try:
        time.sleep(10)
        begun += [_node(core, root) for core in range(nodes)]
        yield f"ray://127.0.0.1:{PORTS[1]}"
    finally:
        for one in reversed(begun):
            _end(one)
        shutil.rmtree(folder, ignore_errors=True)


def _node(core: int, root: Path) -> subprocess.Popen:
    words = [f"--address=127.0.0.1:{PORTS[0]}", "--num-cpus=1", *QUIET]
    with (root / "ray.log").open("a") as log:
        pinned = ["taskset", "--cpu-list", str(core), *RAY, *words]
        node = subprocess.Popen(pinned, stdout=log, stderr=log)
    time.sleep(12)
    return node


def _end(process: subprocess.Popen) -> None:
    for one in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.kill()
    process.wait()


def _kills(options, photos: Path, root: Path) -> dict:
    """Runs on two raylets of which one is killed at a random moment, and what they came to."""
    chance, equal, redone, at = random.Random(14), 0, [], []
    subprocess.run(_command(options, photos, root / "whole"), check=True)
    expected = (root / "whole/predictions.csv").read_bytes()
    shards = len([*(root / "whole").glob("parts/part-*.json")])
    for number in range(options.kills):
        output = root / f"killed-{number}"
        with _cluster(2, root) as address:
            driver = subprocess.Popen(
                _command(options, photos, output, "--on", address),
                stderr=subprocess.PIPE,
                text=True,
            )
            done = chance.randrange(1, shards - 1)
            while len([*output.glob("parts/part-*.json")]) < done and driver.poll() is None:
                time.sleep(0.02)
            raylet = chance.choice([one for one in _raylets() if "--head" not in one.cmdline()])
            at.append(done)
            raylet.send_signal(signal.SIGKILL)
            _, said = driver.communicate()
        equal += driver.returncode == 0 and (output / "predictions.csv").read_bytes() == expected
        redone.append(said.count("given to another actor"))
        print(f"kill {number}: at part {done} of {shards}, {redone[-1]} redone", flush=True)
    return {"kills": options.kills, "whole_and_equal": equal, "shards": shards} | {
        "killed_at_part": at,
        "shards_redone": redone,
    }


def _raylets() -> list[psutil.Process]:
    """The raylets that have a core to give."""
    found = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "raylet"]
    return [one for one in found if "CPU,1" in " ".join(one.cmdline())]


if __name__ == "__main__":
    main()
