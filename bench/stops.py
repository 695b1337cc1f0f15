"""What a command leaves behind that is stopped at a random moment, and what comes after.

    python bench/stops.py score --times 20
    python bench/stops.py up --times 20 --signals KILL TERM CTRL-C

In a terminal of its own each, stopped by Ctrl-C, SIGTERM or SIGKILL at a moment between nothing and
a whole run. Then: seconds to its end, exit status, last line, processes that outlive it, ports that
listen, locks that are held, drafts that lie about; and the same command goes on to its end, whose
bytes are those of a run that nobody stopped.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "tests"), str(ROOT)]

from conftest import shape, write_shapes  # noqa: E402
from record import hardware, versions, written  # noqa: E402
from stopping import Command, checkpoints, environment, locked, started  # noqa: E402

STATUS = {"KILL": 137, "TERM": 143, "CTRL-C": 130}
TRAIN = ("--arch", "resnet18", "--pretrained", "none", "--image-size", "32", "--lr", "3e-3")
# One image at a time: a run that lasts long enough to be met everywhere.
SLOW = ("--batch-size", "1", "--workers", "1", "--shard-size", "20", "--precision", "float32")


@dataclasses.dataclass
class Job:
    """A command, the folder it changes, and the bytes that its end is known by."""

    words: tuple[str, ...]
    folder: Path
    result: Callable[[], bytes]
    whole: Callable[[Command], object] | None = None  # where it ends by itself: None


def score(work: Path) -> Job:
    """Scoring 600 files by a model trained here."""
    _finished(("train", "shapes", "--name", "shapes", "--epochs", "2", *TRAIN), work)
    (work / "inbox").mkdir()
    for number in range(600):
        path = work / "inbox" / f"{number:04d}.png"
        if number < 6:
            shape("circle", number).save(path)
        else:
            os.link(work / "inbox" / f"{number % 6:04d}.png", path)
    words = ("score", "inbox", "--model", "shapes", "--output", "out", *SLOW)
    return Job(words, work / "out", lambda: (work / "out/predictions.csv").read_bytes())


def train(work: Path) -> Job:
    """Training on 72 pictures, with two loaders."""

    def weights() -> bytes:
        (found,) = (work / "store/models/shapes").glob("2*")  # one version, whole
        model = json.loads((found / "model.json").read_bytes())
        return json.dumps([model["files"]["weights.safetensors"], model["metrics"]]).encode()

    words = ("train", "shapes", "--name", "shapes", "--epochs", "4", "--workers", "2", *TRAIN)
    return Job(words, work / "store", weights)


def demo(work: Path) -> Job:
    """The demo, with its own server."""
    csv = work / "demo/scores/predictions.csv"
    return Job(("demo",), work / "demo", csv.read_bytes)


def up(work: Path) -> Job:
    """Server, worker and deployments; a run of it is whole when it says that it is ready."""
    words = ("up", "--port", "0", "--state", "state")
    ready = lambda command: "ready at" in command.text  # noqa: E731
    return Job(words, work / "state", lambda: b"", whole=ready)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("command", choices=("score", "train", "demo", "up"))
    options.add_argument("--times", type=int, default=20, help="for each signal")
    options.add_argument("--signals", nargs="+", choices=STATUS, default=list(STATUS))
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--results", default=str(ROOT / "bench" / "results"))
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_shapes(work / "shapes", each=24)
        job = globals()[asked.command](work)
        told = measured(job, work, asked)
    machine = {"hardware": hardware(), "versions": versions()}
    written({"command": asked.command, **told, **machine}, asked.results, f"stops-{asked.command}")


def measured(job: Job, work: Path, asked: argparse.Namespace) -> dict:
    """The table of all stops, by signal, beside one run that nobody stopped."""
    _whole(job, work)  # what is compiled and cached the first time
    _cleared(job.folder)
    began = time.monotonic()
    _whole(job, work)
    seconds, expected = time.monotonic() - began, job.result()
    dice = random.Random(asked.seed)
    told = {"seconds": round(seconds, 1), "sha256": hashlib.sha256(expected).hexdigest()[:16]}
    for name in asked.signals:
        stops = []
        for number in range(asked.times):
            _cleared(job.folder)
            stop = stopped(job, work, name, dice.uniform(0, seconds))
            _whole(job, work)
            stop["equal"] = job.result() == expected
            stop["drafts"] += checkpoints(job.folder)
            stop["temporary"] += temporary(work)
            print(name, number, json.dumps(stop), flush=True)
            stops.append(stop)
        told[name] = summary(stops, STATUS[name])
    return told


def stopped(job: Job, work: Path, name: str, moment: float) -> dict:
    """A run that is stopped so many seconds after its start, and what is left of it."""
    env, ports = _environment(work), listening()
    with started(*job.words, env=env, cwd=work) as command:
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline and command._poll() is None:
            command._read(0.02)
        command._poll()
        began = time.monotonic()
        if name == "CTRL-C":
            command.type(b"\x03")
        elif command._status is None:
            command.signal(getattr(signal, f"SIG{name}"))
        status = command.ended()
        ended = time.monotonic() - began
        left = command.left()
        gone = time.monotonic() - began
    return {
        "at": round(moment, 2),
        "seconds": round(ended, 2),
        "all_gone": round(gone, 2),
        "status": status,
        "line": (command.lines or [""])[-1],
        "traceback": "Traceback" in command.text,
        "processes": left,
        "ports": sorted(of_family(listening() - ports, command.family)),
        "locks": [str(path) for path in job.folder.rglob("*.lock") if locked(path)],
        "drafts": checkpoints(job.folder) if name != "KILL" else [],
        "temporary": temporary(work) if name != "KILL" else [],
    }


def summary(stops: list[dict], status: int) -> dict:
    """The stops of one signal in figures; what is not as it should be, in whole."""
    as_they_should = {status, 0}  # a run that was at its end already
    odd = [
        stop
        for stop in stops
        if stop["status"] not in as_they_should
        or stop["traceback"]
        or not stop["equal"]
        or any(stop[key] for key in ("processes", "ports", "locks", "drafts", "temporary"))
    ]
    seconds = [stop["all_gone"] for stop in stops]
    return {
        "stops": len(stops),
        "seconds_median": statistics.median(seconds),
        "seconds_most": max(seconds),
        "statuses": dict(collections.Counter(str(stop["status"]) for stop in stops)),
        "equal": sum(stop["equal"] for stop in stops),
        "odd": odd,
    }


def temporary(work: Path) -> list[str]:
    """What lies in TMPDIR, but for the folder that torch keeps there for the next time."""
    return [name for name in os.listdir(work / "tmp") if not name.startswith("torchinductor_")]


def listening() -> set[tuple[str, str]]:
    """Address and inode of every TCP socket of this machine that listens."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A":
                found.add((columns[1], columns[9]))
    return found


def of_family(sockets: set[tuple[str, str]], family: set[int]) -> set[str]:
    """Those of the sockets that a process holds which the command has started, or nobody's."""
    held = set()
    for pid in family:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            held.add(os.readlink(path))
    return {address for address, inode in sockets if f"socket:[{inode}]" in held}


def _environment(work: Path) -> dict[str, str]:
    for name in ("tmp", "home"):
        (work / name).mkdir(exist_ok=True)
    return environment(TMPDIR=str(work / "tmp"), HOME=str(work / "home"))


def _whole(job: Job, work: Path) -> None:
    """Run the command to its end, or until it is what it becomes; then end it."""
    with started(*job.words, env=_environment(work), cwd=work) as command:
        if job.whole:
            command.when(lambda: job.whole(command))
            command.signal(signal.SIGTERM)
            command.ended()
            return
        status = command.ended(within=600)
        if status:
            raise SystemExit(f"{' '.join(job.words)}: {status}\n{command.text}")


def _finished(words: tuple[str, ...], work: Path) -> None:
    _whole(Job(words, work, bytes), work)


def _cleared(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
