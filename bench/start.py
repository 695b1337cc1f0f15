"""Measure startup: seconds and memory to score one photo from the command line.

    python bench/start.py --model pets --store store --photo cat.jpg

Sides, each in its own process, in turn:

    torch       python -c "import torch", the reference
    score       visionflows score of a folder with that photo, without a server
    predict     visionflows predict of that photo
    fastai      load_learner and predict, as in the tutorial
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import hardware, versions, write_result

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
    model = ["--model", options.model, "--store", options.store]
    measured: dict[str, list[tuple[float, int]]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            inbox = Path(folder) / "inbox"
            inbox.mkdir()
            (inbox / "photo.jpg").symlink_to(Path(options.photo).absolute())
            score = [*PROGRAM, "score", str(inbox), *model, "--output", f"{folder}/out"]
            sides = {
                "torch": [sys.executable, "-c", "import torch"],
                "score": score,
                "predict": [*PROGRAM, "predict", options.photo, *model],
                "fastai": [sys.executable, "-c", FASTAI, export, options.photo],
            }
            for side, command in sides.items():
                measured.setdefault(side, []).append(_run(command))
                print(
                    f"{side:10} {measured[side][-1][0]:6.2f} s {measured[side][-1][1]:6} MB",
                    flush=True,
                )
    seconds = {side: statistics.median(run[0] for run in runs) for side, runs in measured.items()}
    result = {
        "hardware": hardware(),
        "versions": versions(),
        "seconds": {side: round(value, 2) for side, value in seconds.items()},
        "rounds": {side: [round(run[0], 2) for run in runs] for side, runs in measured.items()},
        "peak_MB": {side: max(run[1] for run in runs) for side, runs in measured.items()},
        "score/torch": round(seconds["score"] / seconds["torch"], 3),
    }
    write_result(result, options.results, "start")


def _run(command: list[str]) -> tuple[float, int]:
    """Seconds and peak megabytes of a command; of its children only the largest counts."""
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
