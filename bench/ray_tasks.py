"""A Prefect task a shard, through prefect-ray, beside one task that feeds Ray's actors with shards.

    uv pip install --target prefect-ray --no-deps prefect-ray
    PYTHONPATH=prefect-ray python bench/ray_tasks.py --photos inbox --model pets --store store \\
        --files 20000 --shard-size 10 --rounds 3

`actors` is `score --on ray`; `tasks` is bench/shard_tasks.py: the same files, parts and Ray of this
machine. Both tell a Prefect server of their own, each run a new one, which counts. `to_last_part`
are the seconds from the listing on; `steady` is the rate between the first and the last part.
Results, with versions and hardware: bench/results/.
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
from record import hardware, versions, written

SIDES = ("actors", "tasks")
HERE = Path(__file__).resolve().parent


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_one(options)))
        return
    if not importlib.util.find_spec("prefect_ray"):
        sys.exit(
            "prefect-ray is not there: uv pip install --target prefect-ray --no-deps prefect-ray, "
            "and add that folder to PYTHONPATH"
        )
    with tempfile.TemporaryDirectory(dir=Path(options.photos).absolute().parent) as root:
        photos = links(Path(options.photos), Path(root) / "in", options.files)
        rounds, equal = _rounds(options, photos, Path(root))
    names = ("files", "shard_size", "model", "task_cores", "actor_cores", "ahead")
    told = {name: getattr(options, name) for name in names}
    about = versions("ray", "prefect", "prefect-ray", "openvino", "pillow")
    result = {"hardware": hardware(), "versions": about, **told, **_medians(rounds)}
    written({**result, "equal_bytes": equal, "rounds": rounds}, options.results, "ray-tasks")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--files", type=int, default=20_000, help="hard links of the photos")
    parser.add_argument("--shard-size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=SIDES)
    parser.add_argument("--task-cores", type=int, default=1, help="of a Prefect task")
    parser.add_argument("--actor-cores", type=int, help="of an actor; by default all")
    parser.add_argument("--ahead", type=int, default=4, help="shards a task in Ray's hands; 0: all")
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    return parser.parse_args()


def _one(options) -> dict:
    """One run, in a process of its own, and the most memory that it held."""
    from visionflows.cli.options import prepare_prefect
    from visionflows.orchestration.scoring_runs import connect
    from visionflows.scoring.settings import ScoreSettings

    prepare_prefect()
    size, cores = options.shard_size, options.actor_cores
    settings = ScoreSettings(on="ray", shard_size=size, actor_cores=cores)
    words = options.photos, options.model, options.output, options.store, settings
    if options.one == "actors":
        from flows.score import score

        score(*words)
    else:
        import shard_tasks

        with connect(settings):
            shard_tasks.score(*words, cores=options.task_cores, ahead=options.ahead)
    return {"driver_peak_mb": peak_mb()}


def _rounds(options, photos: Path, root: Path) -> tuple[dict[str, list[dict]], bool]:
    """What each run of each side came to, in turn, and whether all wrote the same bytes."""
    rounds: dict[str, list[dict]] = {side: [] for side in options.sides}
    digests = set()
    for number in range(options.rounds):
        for side in sorted(options.sides, reverse=bool(number % 2)):
            rounds[side].append(_measured(side, options, photos, root / "out"))
            digests.add(_digest(root / "out"))
            shutil.rmtree(root / "out")
            print(side, json.dumps(rounds[side][-1]), flush=True)
    return rounds, len(digests) == 1


def _measured(side: str, options, photos: Path, output: Path) -> dict:
    """What one run of a side takes, and what its server was asked."""
    with counting_server() as server:
        at_first = peak_mb(server.pid)
        began = time.perf_counter()
        driver = _driven(side, options, photos, output, server.url)
        seconds = round(time.perf_counter() - began, 1)
        behind = round(server.settle(), 1)
        told = server.told()
        most = told.pop("most")
        known = {
            "task_runs": server.task_runs(),
            "task_runs_completed": server.task_runs("COMPLETED"),
            "server_seconds_behind": behind,
            "server_mb_at_first": at_first,
            "server_peak_mb": peak_mb(server.pid),
        }
    return {
        **_of_files(output),
        "command_seconds": seconds,
        **told,
        **known,
        **driver,
        "most": most,
    }


def _driven(side: str, options, photos: Path, output: Path, url: str) -> dict:
    """Run the driver, told of its server; Ray's workers find what it imports."""
    command = [sys.executable, __file__, "--one", side, "--photos", str(photos)]
    command += ["--model", options.model, "--store", options.store, "--output", str(output)]
    for name in ("shard_size", "task_cores", "actor_cores", "ahead"):
        if (value := getattr(options, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    told = {"PYTHONPATH": path, "PREFECT_API_URL": url, "RAY_USAGE_STATS_ENABLED": "0"}
    told |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | told | {"PREFECT_HOME": home}
        said = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(said.stdout.splitlines()[-1])


def _of_files(output: Path) -> dict:
    """What the files of a run say, of either side in the same way.

    run.json counts its seconds from before the listing to the merged result, whose file's time is
    that moment; a part is there with its record.
    """
    run = json.loads((output / "run.json").read_text())
    records = sorted(output.glob("parts/part-*.json"), key=_written)
    found, seconds = run["counts"]["found"], run["timings"]["seconds"]
    assert run["counts"]["ok"] == found
    first, last = _written(records[0]), _written(records[-1])
    to_last = seconds - (_written(output / "predictions.csv") - last)
    one = json.loads(records[0].read_text())["counts"]["found"]
    processes = [node for node in run["nodes"] if node.startswith("process ")]  # of tasks
    return {
        "device": run["device"],
        **({"processes": len(processes)} if processes else {}),
        "shards": len(records),
        "seconds_to_last_part": round(to_last, 2),
        "seconds_to_result": round(seconds, 2),
        "images_per_second": round(found / to_last, 1),
        "steady_images_per_second": round((found - one) / max(last - first, 1e-9), 1),
    }


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _digest(output: Path) -> str:
    """What tells the result and all parts from those of another run."""
    digest = hashlib.sha256((output / "predictions.csv").read_bytes())
    for path in sorted(output.glob("parts/part-*")):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _medians(rounds: dict[str, list[dict]]) -> dict:
    """The median of each figure of each side, and one side's by the other's."""
    sides = {
        side: {
            name: statistics.median(one[name] for one in measured)
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
