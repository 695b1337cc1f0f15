"""Stop a command at random moments, check what is left behind, and resume it.

    python bench/stops.py score --times 20
    python bench/stops.py up --times 20 --signals KILL TERM CTRL-C

Each command runs in its own terminal and is stopped by Ctrl-C, SIGTERM or SIGKILL at a random
moment. The result has the seconds until it ended, exit status, last line, surviving processes,
listening ports, held locks and leftover checkpoints. Then the same command runs to its end, and its
result must equal that of an uninterrupted run.
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
from record import hardware, versions, write_result  # noqa: E402
from stopping import Command, checkpoints, environment, locked, started  # noqa: E402

STATUS = {"KILL": 137, "TERM": 143, "CTRL-C": 130}
TRAIN = ("--arch", "resnet18", "--pretrained", "none", "--image-size", "32", "--lr", "3e-3")
# One image at a time, so that a run lasts long enough to be stopped anywhere.
SLOW = ("--batch-size", "1", "--workers", "1", "--shard-size", "20", "--precision", "float32")


@dataclasses.dataclass
class Job:
    """A command, the folder it changes, and its result as bytes."""

    words: tuple[str, ...]
    folder: Path
    result: Callable[[], bytes]
    ready: Callable[[Command], object] | None = None  # None if the command ends by itself


def score(work: Path) -> Job:
    """Score 600 files with a model that is trained first."""
    _run_words(("train", "shapes", "--name", "shapes", "--epochs", "2", *TRAIN), work)
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
    """Train on 72 images, with two loader processes."""

    def weights() -> bytes:
        (found,) = (work / "store/models/shapes").glob("2*")  # one complete version
        model = json.loads((found / "model.json").read_bytes())
        return json.dumps([model["files"]["weights.safetensors"], model["metrics"]]).encode()

    words = ("train", "shapes", "--name", "shapes", "--epochs", "4", "--workers", "2", *TRAIN)
    return Job(words, work / "store", weights)


def demo(work: Path) -> Job:
    """The demo, with a temporary server."""
    csv = work / "demo/scores/predictions.csv"
    return Job(("demo",), work / "demo", csv.read_bytes)


def up(work: Path) -> Job:
    """Server, worker and deployments. A run is complete when it prints that it is ready."""
    words = ("up", "--port", "0", "--state", "state")
    ready = lambda command: "ready at" in command.text  # noqa: E731
    return Job(words, work / "state", lambda: b"", ready=ready)


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
        result = measure(job, work, asked)
    machine = {"hardware": hardware(), "versions": versions()}
    write_result(
        {"command": asked.command, **result, **machine}, asked.results, f"stops-{asked.command}"
    )


def measure(job: Job, work: Path, asked: argparse.Namespace) -> dict:
    """The results of all stops, by signal, and of one uninterrupted run."""
    _run_to_end(job, work)  # fill caches
    _clear(job.folder)
    began = time.monotonic()
    _run_to_end(job, work)
    seconds, expected = time.monotonic() - began, job.result()
    rng = random.Random(asked.seed)
    result = {"seconds": round(seconds, 1), "sha256": hashlib.sha256(expected).hexdigest()[:16]}
    for name in asked.signals:
        stops = []
        for number in range(asked.times):
            _clear(job.folder)
            stop = stop_at(job, work, name, rng.uniform(0, seconds))
            _run_to_end(job, work)
            stop["equal"] = job.result() == expected
            stop["drafts"] += checkpoints(job.folder)
            stop["temporary"] += temporary(work)
            print(name, number, json.dumps(stop), flush=True)
            stops.append(stop)
        result[name] = summary(stops, STATUS[name])
    return result


def stop_at(job: Job, work: Path, name: str, moment: float) -> dict:
    """Stop a run `moment` seconds after its start, and return what is left behind."""
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
    """The figures of one signal, and all stops with an unexpected outcome."""
    expected = {status, 0}  # 0: the run had ended already
    unexpected = [
        stop
        for stop in stops
        if stop["status"] not in expected
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
        "odd": unexpected,
    }


def temporary(work: Path) -> list[str]:
    """The names in TMPDIR, without the cache folder of torch."""
    return [name for name in os.listdir(work / "tmp") if not name.startswith("torchinductor_")]


def listening() -> set[tuple[str, str]]:
    """Address and inode of every listening TCP socket of this machine."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A":
                found.add((columns[1], columns[9]))
    return found


def of_family(sockets: set[tuple[str, str]], family: set[int]) -> set[str]:
    """The addresses of the sockets that the processes `family` hold."""
    held = set()
    for pid in family:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            held.add(os.readlink(path))
    return {address for address, inode in sockets if f"socket:[{inode}]" in held}


def _environment(work: Path) -> dict[str, str]:
    for name in ("tmp", "home"):
        (work / name).mkdir(exist_ok=True)
    return environment(TMPDIR=str(work / "tmp"), HOME=str(work / "home"))


def _run_to_end(job: Job, work: Path) -> None:
    """Run the command to its end; stop one that does not end once it is ready."""
    with started(*job.words, env=_environment(work), cwd=work) as command:
        if job.ready:
            command.when(lambda: job.ready(command))
            command.signal(signal.SIGTERM)
            command.ended()
            return
        status = command.ended(within=600)
        if status:
            raise SystemExit(f"{' '.join(job.words)}: {status}\n{command.text}")


def _run_words(words: tuple[str, ...], work: Path) -> None:
    _run_to_end(Job(words, work, bytes), work)


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
