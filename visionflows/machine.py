"""What this machine gives a run: cores, memory, the processor's name, the versions of libraries.

    from visionflows.machine import cores, memory_bytes
    cores()                                          # those this process may use

A container sees all cores and all memory of its host; what it may use stands in its cgroup
(https://docs.kernel.org/admin-guide/cgroup-v2.html, "CPU" and "Memory").
"""

import contextlib
import math
import os
import platform
from importlib import metadata
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 writes a number of that size where there is no limit


def cores() -> int:
    """How many cores this process may keep busy: by affinity, and by the quota of its cgroup."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:  # macOS
        allowed = os.cpu_count() or 1
    quota = _quota()
    return max(min(allowed, math.ceil(quota)) if quota else allowed, 1)


def memory_bytes() -> int:
    """How many bytes of memory this process may use: the machine's, or what its cgroup allows."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _words(path)
        if limit and limit[0].isdecimal() and int(limit[0]) < _UNLIMITED:
            return min(there, int(limit[0]))
    return there


def processor() -> str:
    """The processor's name, such as `AMD EPYC 9354`; `unknown` where the system does not say."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """What a result depends on: Python and the libraries, by version."""
    names = ("visionflows", "torch", "torchvision", "fastai", "pillow", "numpy", "prefect")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def computing() -> dict[str, str]:
    """The versions of what decodes and computes: rows by others may differ in the last digits."""
    names = ("torch", "torchvision", "pillow", "numpy")
    return {name: metadata.version(name) for name in names}


def _quota() -> float:
    """Cores' worth of time that the cgroup allows; 0 where it says nothing."""
    both = _words("cpu.max")  # "200000 100000", or "max 100000"
    if len(both) != 2:
        both = [*_words("cpu/cpu.cfs_quota_us"), *_words("cpu/cpu.cfs_period_us")]
    if len(both) == 2 and both[0].isdecimal() and both[1].isdecimal():
        return int(both[0]) / int(both[1])
    return 0.0


def _words(name: str) -> list[str]:
    with contextlib.suppress(OSError):
        return (CGROUP / name).read_text().split()
    return []
