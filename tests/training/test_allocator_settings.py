"""Freed memory is kept during training and returned to the system afterwards."""

import json
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from visionflows.training.allocator_settings import keep_freed_memory
from visionflows.training.dataloaders import make_dataloaders
from visionflows.training.settings import TrainSettings

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
SIZE = 256 << 20


def faults() -> int:
    """The number of page faults for an array that is created, filled and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(SIZE, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    with open("/proc/self/statm", encoding="utf-8") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()


def print_page_faults() -> None:
    """Print, as JSON, the page faults outside and inside the block, and the remaining memory."""
    before = resident()
    outside = [faults() for _ in range(3)]
    with keep_freed_memory():
        faults()
        inside = [faults() for _ in range(3)]
        kept = resident() - before
    left = resident() - before
    print(json.dumps({"outside": outside, "inside": inside, "kept": kept, "left": left}))
    print(faults())


@pytest.mark.slow
def test_freed_memory_is_kept_inside_the_block_and_returned_after_it():
    """In a subprocess: a thread whose allocation once failed uses another arena."""
    program = "from test_allocator_settings import print_page_faults; print_page_faults()"
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=Path(__file__).parent, check=True, capture_output=True)
    seen, afterwards = map(json.loads, done.stdout.splitlines())
    assert max(seen["inside"]) < min(seen["outside"]) / 4
    assert seen["kept"] > SIZE / 2
    assert seen["left"] < SIZE / 2
    assert afterwards > max(seen["inside"])


def test_a_dataloader_process_keeps_no_freed_memory(trained):
    """Each item is the number of page faults of creating it a second time."""
    settings = TrainSettings(
        architecture="test_resnet", pretrained="none", image_size=32, augment="none", workers=1
    )
    with keep_freed_memory():
        loader = make_dataloaders(trained.table, trained.dataset, settings).valid
        loader.create_item = lambda at: (faults(), faults())
        loader.after_item = loader.before_batch = loader.after_batch = lambda given: given
        again = [second for batch in loader for second in batch[1].tolist()]
    assert again
    assert min(again) > SIZE // resource.getpagesize() / 600  # huge pages, or near a hundred
