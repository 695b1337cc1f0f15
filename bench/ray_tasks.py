"""Compare one Prefect task per shard (prefect-ray) with one task that feeds Ray actors.

    uv pip install --target prefect-ray --no-deps prefect-ray
    PYTHONPATH=prefect-ray python bench/ray_tasks.py --photos inbox --model pets --store store \\
        --files 20000 --shard-size 10 --rounds 3

`actors` is `score --on ray`; `tasks` is bench/shard_tasks.py with the same files, parts and Ray.
Each run has a new Prefect server that counts requests. `seconds_to_last_part` counts from the start
of the listing; `steady_images_per_second` is the rate between the first and the last part. Results,
with versions and hardware: bench/results/.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster import links
from counting_server import counting_server, peak_mb
from record import hardware, versions, write_result

SIDES = ("actors", "tasks")
HERE = Path(__file__).resolve().parent


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_one(options)))
        return
    if not importlib.util.find_spec("prefect_ray"):
        sys.exit(
            "prefect-ray is not installed: "
            "uv pip install --target prefect-ray --no-deps prefect-ray, "
            "and add that folder to PYTHONPATH"
        )
    with tempfile.TemporaryDirectory(dir=Path(options.photos).absolute().parent) as root:
        photos = links(Path(options.photos), Path(root) / "in", options.files)
        rounds, equal = _rounds(options, photos, Path(root))
    names = ("files", "shard_size", "model", "task_cores", "actor_cores", "ahead")
    settings = {name: getattr(options, name) for name in names}
    about = versions("ray", "prefect", "prefect-ray", "openvino", "pillow")
    result = {"hardware": hardware(), "versions": about, **settings, **_medians(rounds)}
    write_result({**result, "equal_bytes": equal, "rounds": rounds}, options.results, "ray-tasks")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument(
        "--files", type=int, default=20_000, help="number of hard links to the photos"
    )
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=SIDES)
    parser.add_argument("--task-cores", type=int, default=1, help="cores of a Prefect task")
    parser.add_argument("--actor-cores", type=int, help="cores of an actor; by default all")
    parser.add_argument("--ahead", type=int, default=4, help="shards in flight per task; 0: all")
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    return parser.parse_args()


def _one(options) -> dict:
    """Run one side in this process, and return its peak memory."""
    from visionflows.cli.options import prepare_prefect
    from visionflows.cluster.nodes import connected
    from visionflows.scoring.settings import ScoreSettings

    prepare_prefect()
    size, cores = options.shard_size, options.actor_cores
    settings = ScoreSettings(on="ray", shard_size=size, actor_cores=cores)
    arguments = options.photos, options.model, options.output, options.store, settings
    if options.one == "actors":
        from flows.score import score

        score(*arguments)
    else:
        import shard_tasks

        with connected(settings.on):
            shard_tasks.score(*arguments, cores=options.task_cores, ahead=options.ahead)
    return {"driver_peak_mb": peak_mb()}


def _rounds(options, photos: Path, root: Path) -> tuple[dict[str, list[dict]], bool]:
    """Run the sides in turn; return their results and whether all wrote the same bytes."""
    rounds: dict[str, list[dict]] = {side: [] for side in options.sides}
    digests = set()
    for number in range(options.rounds):
        for side in sorted(options.sides, reverse=bool(number % 2)):
            rounds[side].append(_measure(side, options, photos, root / "out"))
            digests.add(_digest(root / "out"))
            shutil.rmtree(root / "out")
            print(side, json.dumps(rounds[side][-1]), flush=True)
    return rounds, len(digests) == 1


def _measure(side: str, options, photos: Path, output: Path) -> dict:
    """Measure one run of a side and the requests to its server."""
    with counting_server() as server:
        at_first = peak_mb(server.pid)
        began = time.perf_counter()
        driver = _run_driver(side, options, photos, output, server.url)
        seconds = round(time.perf_counter() - began, 1)
        behind = round(server.settle(), 1)
        counts = server.counts()
        most = counts.pop("most")
        server_figures = {
            "task_runs": server.task_runs(),
            "task_runs_completed": server.task_runs("COMPLETED"),
            "server_seconds_behind": behind,
            "server_mb_at_first": at_first,
            "server_peak_mb": peak_mb(server.pid),
        }
    return {
        **_figures(output),
        "command_seconds": seconds,
        **counts,
        **server_figures,
        **driver,
        "most": most,
    }


def _run_driver(side: str, options, photos: Path, output: Path, url: str) -> dict:
    """Run the driver with the server's URL, and PYTHONPATH set for Ray's workers."""
    command = [sys.executable, __file__, "--one", side, "--photos", str(photos)]
    command += ["--model", options.model, "--store", options.store, "--output", str(output)]
    for name in ("shard_size", "task_cores", "actor_cores", "ahead"):
        if (value := getattr(options, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    variables = {"PYTHONPATH": path, "PREFECT_API_URL": url, "RAY_USAGE_STATS_ENABLED": "0"}
    variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | variables | {"PREFECT_HOME": home}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def _figures(output: Path) -> dict:
    """The figures of a run from its files, in the same way for both sides.

    The seconds of run.json end when predictions.csv is merged, which is its modification time. A
    part is complete when its .json file exists.
    """
    run = json.loads((output / "run.json").read_text())
    records = sorted(output.glob("parts/part-*.json"), key=_modified)
    found, seconds = run["counts"]["found"], run["timings"]["seconds"]
    assert run["counts"]["ok"] == found
    first, last = _modified(records[0]), _modified(records[-1])
    to_last = seconds - (_modified(output / "predictions.csv") - last)
    first_part = json.loads(records[0].read_text())["counts"]["found"]
    processes = [node for node in run["nodes"] if node.startswith("process ")]  # of tasks
    return {
        "device": run["device"],
        **({"processes": len(processes)} if processes else {}),
        "shards": len(records),
        "seconds_to_last_part": round(to_last, 2),
        "seconds_to_result": round(seconds, 2),
        "images_per_second": round(found / to_last, 1),
        "steady_images_per_second": round((found - first_part) / max(last - first, 1e-9), 1),
    }


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _digest(output: Path) -> str:
    """A SHA-256 of the result and all parts."""
    digest = hashlib.sha256((output / "predictions.csv").read_bytes())
    for path in sorted(output.glob("parts/part-*")):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _medians(rounds: dict[str, list[dict]]) -> dict:
    """The median of each figure of each side, and the ratios tasks/actors."""
    sides = {
        side: {
            name: statistics.median(run[name] for run in measured)
            for name, value in measured[0].items()
            if isinstance(value, int | float)
        }
        for side, measured in rounds.items()
    }
    if set(sides) != set(SIDES):
        return {"median": sides}
    tasks, actors = sides["tasks"], sides["actors"]
    ratios = {name: round(tasks[name] / value, 3) for name, value in actors.items() if value}
    return {"median": sides, "tasks/actors": ratios}


if __name__ == "__main__":
    main()
