"""Memory that a training frees is its next step's, and the system's when it is done."""

import platform
import resource

import numpy as np
import pytest

from visionflows.training.memory import kept_memory

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
