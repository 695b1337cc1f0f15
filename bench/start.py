"""How long one photo takes from the command line, and how much memory: the start, not the speed.

    python bench/start.py --model pets --store store --photo cat.jpg

Sides, each a process of its own, in turn:

    torch       python -c "import torch", the measure
    score       visionflows score of a folder with that photo, no server named
    predict     visionflows predict of it
    fastai      load_learner and predict, as the tutorial has them
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import hardware, versions, written

from visionflows.models.registry import find_model

PROGRAM = [sys.executable, "-m", "visionflows.cli"]
FASTAI = "import sys; from fastai.vision.all import *; print(load_learner(sys.argv[1]).predict"
FASTAI += "(sys.argv[2]))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a model trained with --export-fastai")
    parser.add_argument("--store", default="store")
    parser.add_argument("--photo", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    export = f"{find_model(options.model, options.store)}/export.pkl"
    named = ["--model", options.model, "--store", options.store]
    told: dict[str, list[tuple[float, int]]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            inbox = Path(folder) / "inbox"
            inbox.mkdir()
            (inbox / "photo.jpg").symlink_to(Path(options.photo).absolute())
            score = [*PROGRAM, "score", str(inbox), *named, "--output", f"{folder}/out"]
            sides = {
                "torch": [sys.executable, "-c", "import torch"],
                "score": score,
                "predict": [*PROGRAM, "predict", options.photo, *named],
                "fastai": [sys.executable, "-c", FASTAI, export, options.photo],
            }
            for side, command in sides.items():
                told.setdefault(side, []).append(_run(command))
                print(f"{side:10} {told[side][-1][0]:6.2f} s {told[side][-1][1]:6} MB", flush=True)
    seconds = {side: statistics.median(run[0] for run in runs) for side, runs in told.items()}
    result = {
        "hardware": hardware(),
        "versions": versions(),
        "seconds": {side: round(value, 2) for side, value in seconds.items()},
        "rounds": {side: [round(run[0], 2) for run in runs] for side, runs in told.items()},
        "peak_MB": {side: max(run[1] for run in runs) for side, runs in told.items()},
        "score/torch": round(seconds["score"] / seconds["torch"], 3),
    }
    written(result, options.results, "start")


def _run(command: list[str]) -> tuple[float, int]:
    """Seconds and megabytes of a command, whose children count for the largest of them alone."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit(f"{command}: {errors}")
    return seconds, used.ru_maxrss >> 10


if __name__ == "__main__":
    main()
