"""Train many times: kill each training at a random moment, then resume it on another machine.

    python tests/e2e/kill_training.py DATASET STORES SETTINGS_AS_JSON ROUNDS

Prints, as JSON, the epochs that each killed run had ended and those that the next one trained. A
kill after the model began to be published is repeated earlier. The runs are forks of one process
that has imported torch but never used it. Another machine has another cache.
"""

import json
import logging
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

import fastai.vision.all  # noqa: F401 (imported once for all forks)

from flows.train import train
from visionflows.storage import open_storage
from visionflows.training.settings import TrainSettings

EPOCH = re.compile(r"epoch \d+/\d+ ")


def main(dataset: str, stores: str, settings: str, rounds: str) -> None:
    rng, found = random.Random(22), []
    chosen = TrainSettings.model_validate_json(settings)
    began = time.monotonic()
    _wait(_fork(dataset, f"{stores}/whole", chosen))
    seconds = time.monotonic() - began
    while len(found) < int(rounds):
        store = f"{stores}/{len(found)}"
        child, killed = _fork(dataset, store, chosen)
        time.sleep(rng.uniform(0.1, 0.9) * seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        log = killed.read_text() if killed.exists() else ""
        if open_storage(f"{store}/models").exists():  # the kill was too late: it was published
            open_storage(store).remove("")
            seconds *= 0.9
            continue
        again = _fork(dataset, store, chosen)
        _wait(again)
        found.append([len(EPOCH.findall(log)), len(EPOCH.findall(again[1].read_text()))])
    print(json.dumps(found))


def _fork(dataset: str, store: str, settings: TrainSettings) -> tuple[int, Path]:
    """A process that trains, and its log."""
    folder = Path(tempfile.mkdtemp())
    if child := os.fork():
        return child, folder / "log"
    status = 1
    try:
        logger = logging.getLogger("visionflows")
        logger.addHandler(logging.FileHandler(folder / "log"))
        logger.setLevel(logging.INFO)
        os.environ["VISIONFLOWS_CACHE"] = str(folder / "cache")
        train(dataset, "shapes", store=store, settings=settings)
        status = 0
    finally:
        os._exit(status)


def _wait(run: tuple[int, Path]) -> None:
    _, status = os.waitpid(run[0], 0)
    if status:
        sys.exit(f"a run that was let finish ended with status {status}: {run[1].read_text()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
