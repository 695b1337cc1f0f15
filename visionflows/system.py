"""What this machine gives a run: cores, memory, the processor's name, the versions of libraries.

    from visionflows.system import cores, memory_bytes
    cores()                                          # those this process may use

A container sees all cores and all memory of its host; what it may use stands in its cgroup and in
those around it (https://docs.kernel.org/admin-guide/cgroup-v2.html, "CPU" and "Memory"; version 1
keeps a tree of its own for each controller).
"""

import contextlib
import math
import os
import platform
import resource
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")  # lines such as `0::/a/b`, or `4:cpu,cpuacct:/a/b`
DECODER = 512 << 20  # bytes: Python, a batch or two, and its share of large pictures
_UNLIMITED = 1 << 60  # version 1 writes a number of that size where there is no limit
_GUESS = 4 << 30  # bytes of memory, where a system does not say


_given = {"cores": 1 << 16, "among": 1}  # what `share` says: where a cluster places processes


def set_share(cores: int, among: int) -> None:
    """From now on this process has so many cores, and of the memory its part among so many."""
    _given.update(cores=cores, among=among)


def cores() -> int:
    """How many cores this process may keep busy: by affinity, its cgroups, and its share."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:  # macOS
        allowed = os.cpu_count() or 1
    allowed = min(allowed, _given["cores"])
    return max(min([allowed, *(math.ceil(quota) for quota in _quotas())]), 1)


def memory_bytes() -> int:
    """How many bytes of memory this process may use: the machine's, or what a limit allows it."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        there = _GUESS
    limits = [there, *_memory_limits()]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    if own != resource.RLIM_INFINITY:
        limits.append(own)
    return min(limits) // _given["among"]


def decoder_count(each: int = DECODER) -> int:
    """How many decoders, streams or loaders to run: one a core, while half the memory holds them.

    `each` is what one takes, in bytes.
    """
    return max(min(cores(), memory_bytes() // 2 // each), 1)


def processor_name() -> str:
    """The processor's name, such as `AMD EPYC 9354`; `unknown` where the system does not say."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def cpu_features() -> set[str]:
    """What the processor can do, such as `avx512_bf16`; nothing where the system does not say."""
    names = ("flags", "Features")  # on x86, and on ARM
    found = (line.partition(":") for line in _lines(Path("/proc/cpuinfo")))
    return next((set(rest.split()) for name, _, rest in found if name.strip() in names), set())


def library_versions() -> dict[str, str]:
    """What a result depends on: Python and the libraries, by version."""
    told = {"python": platform.python_version(), "visionflows": metadata.version("visionflows")}
    for name in ("torch", "torchvision", "fastai", "openvino", "pillow", "numpy", "prefect"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            told[name] = metadata.version(name)
    return told


def engine_versions(libraries: Iterable[str]) -> dict[str, str]:
    """The versions of what decodes and computes: rows by others may differ in the last digits."""
    names = (*libraries, "pillow", "pi-heif", "numpy")
    return {name: metadata.version(name) for name in names}


def _quotas() -> Iterator[float]:
    """Cores' worth of time that each cgroup around this process allows, where it says so."""
    for folder in _cgroups(""):
        yield from _share(_words(folder / "cpu.max"))  # "200000 100000", or "max 100000"
    for folder in _cgroups("cpu"):
        quota, period = (_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        yield from _share([*quota, *period])


def _share(words: list[str]) -> Iterator[float]:
    if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
        yield int(words[0]) / int(words[1])


def _memory_limits() -> Iterator[int]:
    """Bytes that each cgroup around this process allows, where it says so."""
    files = [folder / name for folder in _cgroups("") for name in ("memory.max", "memory.high")]
    files += [folder / "memory.limit_in_bytes" for folder in _cgroups("memory")]
    for file in files:
        for word in _words(file)[:1]:
            if word.isdecimal() and int(word) < _UNLIMITED:
                yield int(word)


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of all around it; version 2 names no controller.

    Inside a container its own cgroup can be the root that is mounted, whatever its path outside.
    """
    for line in (*_lines(OWN_CGROUP), f"0:{controller}:/"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            for root in (CGROUP, CGROUP / "unified", CGROUP / controller, CGROUP / controllers):
                parts = [part for part in path.split("/") if part]
                for depth in range(len(parts) + 1):
                    yield root.joinpath(*parts[:depth])


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8").splitlines()
    return []
