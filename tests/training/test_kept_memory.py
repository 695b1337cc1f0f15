"""Memory that a training frees is its next step's, and the system's when it is done."""

import platform
import resource

import numpy as np
import pytest

from visionflows.training.learner import make_loaders
from visionflows.training.memory import kept_memory
from visionflows.training.settings import TrainSettings

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
SIZE = 256 << 20


def faults() -> int:
    """How many pages the system gives for an array that is made, filled and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(SIZE, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()


def test_freed_memory_is_kept_for_the_next_step_and_given_back_after_the_last():
    before = resident()
    outside = [faults() for _ in range(3)]
    with kept_memory():
        faults()
        inside = [faults() for _ in range(3)]
        kept = resident()
    assert max(inside) < min(outside) / 4
    assert kept - before > SIZE / 2
    assert resident() - before < SIZE / 2
    assert faults() > max(inside)


def test_a_process_that_loads_images_meanwhile_keeps_none(trained):
    """Each item stands for what it cost: how many pages, when it was made a second time."""
    settings = TrainSettings(
        architecture="resnet18", pretrained="none", image_size=32, augment=False, workers=1
    )
    with kept_memory():
        loader = make_loaders(trained.table, trained.dataset, settings).valid
        loader.create_item = lambda at: (faults(), faults())
        loader.after_item = loader.before_batch = loader.after_batch = lambda given: given
        again = [second for batch in loader for second in batch[1].tolist()]
    assert again
    assert min(again) > SIZE // resource.getpagesize() / 600  # huge pages, or near a hundred
