"""Score a folder many times: kill each run at a random moment, then resume it.

    python tests/e2e/kill_and_resume.py FOLDER OUTPUTS STORE SETTINGS_AS_JSON ROUNDS

Prints, as JSON, how many finished shards each second run found. The runs are forks of one process
that has imported torch but never used it, so that many starts are fast. In a bucket,
predictions.csv is uploaded in tiny parts, so that kills interrupt its upload too.
"""

import json
import os
import random
import signal
import sys
import time

import torch  # noqa: F401 (imported once for all forks)
import torchvision.models  # noqa: F401

from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage
from visionflows.storage.s3 import objects


def main(folder: str, outputs: str, store: str, settings: str, rounds: str) -> None:
    objects.PART = 1000
    rng = random.Random(20)
    chosen = ScoreSettings.model_validate_json(settings)
    finished = []
    for number in range(1, int(rounds) + 1):
        output = f"{outputs}/{number}"
        child = _fork(folder, output, store, chosen)
        _wait_for_parts(output, parts=rng.randint(0, 13), seconds=rng.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        finished.append(_finished(output))
        _wait(_fork(folder, output, store, chosen))
    print(json.dumps(finished))


def _wait_for_parts(output: str, parts: int, seconds: float) -> None:
    """Wait for a number of finished parts, and then some seconds."""
    deadline = time.monotonic() + 120
    while _finished(output) < parts:
        if time.monotonic() > deadline:
            sys.exit(f"{output}: no {parts} parts within two minutes")
        time.sleep(0.002)
    time.sleep(seconds)


def _finished(output: str) -> int:
    return sum(name.endswith(".json") for name in open_storage(output).names("parts")) - (
        open_storage(output).exists("parts/plan.json")
    )


def _fork(folder: str, output: str, store: str, settings: ScoreSettings) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        score_folder(folder, "shapes", output, store, settings)
        status = 0
    finally:
        os._exit(status)


def _wait(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"a run that was let finish ended with status {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
