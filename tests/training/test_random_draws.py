"""The same seed gives the same weights, independent of other threads."""

import concurrent.futures
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import write_oblong

from visionflows.datasets.file_table import build_table
from visionflows.training.fine_tune import fine_tune
from visionflows.training.settings import TrainSettings

SMALL = TrainSettings(
    architecture="test_resnet", pretrained="none", image_size=24, epochs=1, batch_size=8
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Callable[[int], bytes]:
    """A function that trains with a number of loader processes, on random crops."""
    folder = tmp_path_factory.mktemp("draws")
    write_oblong(folder / "in")
    table = build_table(folder / "in", "folder", valid_pct=0.25)

    def train(workers: int) -> bytes:
        checkpoint = Path(tmp_path_factory.mktemp("checkpoint"))
        fine_tune(table, folder / "in", checkpoint, SMALL.model_copy(update={"workers": workers}))
        return (checkpoint / "weights.safetensors").read_bytes()

    return train


@pytest.fixture(scope="module")
def expected(weights) -> bytes:
    """The weights of a training without other threads."""
    return weights(0)


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """A thread that draws from the global random generators, as Prefect's websocket does."""
    ended = threading.Event()

    def draw() -> None:
        while not ended.wait(0.0005):
            random.random()
            np.random.random()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_thread_that_draws_random_numbers_does_not_change_the_training(weights, expected):
    with drawing():
        assert weights(0) == expected


def test_a_thread_that_draws_random_numbers_does_not_change_loader_processes(weights):
    undisturbed = weights(2)
    with drawing():
        assert weights(2) == undisturbed


def test_two_trainings_in_one_process_do_not_affect_each_other(weights, expected):
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        assert list(both.map(weights, (0, 0))) == [expected, expected]
