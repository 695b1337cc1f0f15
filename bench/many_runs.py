"""Run many small scoring flow runs at once on PostgreSQL, and check that none is lost.

    python bench/many_runs.py --runs 200 --at-once 8 --model digits --store demo/store

Starts PostgreSQL and `visionflows up` in a temporary folder. PostgreSQL must be installed.
"""

import argparse
import collections
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT)]

from postgres import postgres_binaries, running_postgres  # noqa: E402
from serving import ENDED, Served, served  # noqa: E402

from visionflows.system import cores  # noqa: E402


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=200, help="at most 200: a page of the API")
    options.add_argument("--at-once", type=int, default=8)
    options.add_argument("--model", default="digits")
    options.add_argument("--store", default="demo/store")
    options.add_argument("--images", default="demo/inbox")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        work = Path(folder)
        work.chmod(0o755)  # the PostgreSQL user must be able to enter
        (work / "pg").mkdir()
        images = sorted(Path(asked.images).glob("*.png"))[:4]
        (work / "inbox").mkdir()
        for image in images:
            shutil.copy(image, work / "inbox")
        options = ("--deployments", deployments(work, asked.at_once))
        with running_postgres(postgres_binaries(), work / "pg") as url:
            store = Path(asked.store).absolute()
            up = served(work / "up", store, "--database", url, *map(str, options))
            with up as server:
                measure(server, work, asked)


def deployments(work: Path, at_once: int) -> Path:
    """The project's prefect.yaml, with `at_once` as the concurrency limit."""
    text = (ROOT / "deployments" / "prefect.yaml").read_text()
    text = text.replace("jobs: 1", f"jobs: {at_once}").replace("limit: 1", f"limit: {at_once}")
    (work / "deployments").mkdir()
    path = work / "deployments" / "prefect.yaml"
    path.write_text(text)
    yaml.safe_load(text)
    return path


def measure(server: Served, work: Path, asked) -> None:
    began = time.monotonic()
    inbox = str(work / "inbox")
    settings = {"precision": "float32", "workers": 1}
    runs = [
        server.start("score", input=inbox, model=asked.model, output=f"out/{n}", settings=settings)
        for n in range(asked.runs)
    ]
    print(f"{time.monotonic() - began:6.0f} s  {len(runs)} runs created", flush=True)
    most = 0
    while True:
        states = _states(server, runs)
        most = max(most, states["Running"])
        print(f"{time.monotonic() - began:6.0f} s  {dict(states)}", flush=True)
        if sum(states[name] for name in ENDED) == len(runs):
            break
        time.sleep(5)
    seconds = time.monotonic() - began
    finished = len(list((server.folder / "out").glob("*/run.json")))
    log = (server.folder / "state" / "logs" / "server.log").read_text()
    print(f"{asked.runs} runs, at most {most} seen running at once, {cores()} cores")
    print(
        f"{seconds:.0f} s, {seconds / asked.runs:.2f} s a run; {dict(states)}; {finished} run.json"
    )
    print(f"server's log: {log.count('locked')} times 'locked'; errors: {_errors(log)}")


def _errors(log: str) -> dict[str, int]:
    """The last lines of the tracebacks in a log, with their counts."""
    tracebacks = log.split("Traceback (most recent call last):")[1:]
    ends = (
        re.search(r"^(?:[\w.]+: .*|[\w.]+)$", traceback, re.MULTILINE) for traceback in tracebacks
    )
    return dict(collections.Counter(end[0] for end in ends if end))


def _states(server: Served, runs: list[str]) -> collections.Counter:
    """Count the runs in each state, with one request, to add little load."""
    answer = server.api.post("/flow_runs/filter", json={"flow_runs": {"id": {"any_": runs}}})
    names = {run["id"]: run["state"]["name"] for run in answer.raise_for_status().json()}
    return collections.Counter(names.get(run, "lost") for run in runs)


if __name__ == "__main__":
    main()
