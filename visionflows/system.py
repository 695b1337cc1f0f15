"""What this process may use of the machine: cores and memory; processor and library versions.

A container sees all cores and memory of its host. What it may use is a limit of its cgroup, or of
one around that (https://docs.kernel.org/admin-guide/cgroup-v2.html, "CPU" and "Memory"; version 1
has a tree of cgroups for each controller).
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
CPU_INFO = Path("/proc/cpuinfo")
OWN_CGROUP = Path("/proc/self/cgroup")  # lines such as `0::/a/b` or `4:cpu,cpuacct:/a/b`
DECODER_BYTES = 512 << 20  # Python, a batch or two, and its share of large images
_UNLIMITED = 1 << 60  # cgroups of version 1 write larger numbers if there is no limit
_DEFAULT_MEMORY = 4 << 30  # bytes, if the system does not say
_share = {"cores": 1 << 16, "processes": 1}


def set_share(cores: int, processes: int) -> None:
    """Limit this process to so many cores, and to its share of memory among `processes`."""
    _share.update(cores=cores, processes=processes)


def cores() -> int:
    """How many cores this process may use: by affinity, cgroups and `set_share`."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:  # macOS
        allowed = os.cpu_count() or 1
    allowed = min(allowed, _share["cores"])
    return max(min([allowed, *(math.ceil(quota) for quota in _quotas())]), 1)


def memory_bytes() -> int:
    """How many bytes of memory this process may use: the machine's, or less by a limit."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        total = _DEFAULT_MEMORY
    limits = [total, *_memory_limits()]
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    if own != resource.RLIM_INFINITY:
        limits.append(own)
    return min(limits) // _share["processes"]


def decoder_count(bytes_each: int = DECODER_BYTES) -> int:
    """How many decoders, streams or loaders to run: one a core, in half of the memory."""
    return max(min(cores(), memory_bytes() // 2 // bytes_each), 1)


def processor_name() -> str:
    """The processor's name, such as `AMD EPYC 9354`; `unknown` if the system does not say.

    Linux on ARM says only who made the cores, and their numbers: 0x41 and 0xd40 is Graviton 3.
    """
    name = next(iter(_cpu_info("model name")), "") or platform.processor()
    makers, parts = ("/".join(_cpu_info(f"CPU {key}")) for key in ("implementer", "part"))
    if parts:
        return f"{name or 'ARM'} (implementer {makers}, part {parts})"
    return name or "unknown"


def cpu_features() -> set[str]:
    """The processor's features, such as `avx512_bf16`; empty if the system does not say."""
    found = _cpu_info("flags") or _cpu_info("Features")  # on x86, and on ARM
    return set(found[0].split()) if found else set()


def _cpu_info(name: str) -> list[str]:
    """The values that the cores have for a name, each once: a big core may differ from a little."""
    found = (line.partition(":") for line in _lines(CPU_INFO))
    return list(dict.fromkeys(value.strip() for key, _, value in found if key.strip() == name))


def library_versions() -> dict[str, str]:
    """The versions of Python and the libraries, as model.json and run.json record them."""
    versions = {"python": platform.python_version(), "visionflows": metadata.version("visionflows")}
    for name in ("torch", "torchvision", "fastai", "openvino", "pillow", "numpy", "prefect"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def engine_versions(libraries: Iterable[str]) -> dict[str, str]:
    """The versions of what decodes and computes; other versions may change the last digits."""
    names = (*libraries, "pillow", "pi-heif", "simplejpeg", "numpy")
    return {name: metadata.version(name) for name in names}


def _quotas() -> Iterator[float]:
    """The CPU quota, in cores, of each cgroup around this process that has one."""
    files = [[folder / "cpu.max"] for folder in _cgroups("")]  # "200000 100000", "max 100000"
    for folder in _cgroups("cpu"):
        files.append([folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"])
    for pair in files:
        words = [word for file in pair for word in _words(file)]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            yield int(words[0]) / int(words[1])


def _memory_limits() -> Iterator[int]:
    """The limit in bytes of each cgroup around this process that has one."""
    files = [folder / name for folder in _cgroups("") for name in ("memory.max", "memory.high")]
    files += [folder / "memory.limit_in_bytes" for folder in _cgroups("memory")]
    for file in files:
        for word in _words(file)[:1]:
            if word.isdecimal() and int(word) < _UNLIMITED:
                yield int(word)


def _cgroups(controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and those around it; `controller` is empty in version 2.

    Inside a container, its own cgroup can be mounted as the root.
    """
    for line in (*_lines(OWN_CGROUP), f"0:{controller}:/"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            for root in (CGROUP, CGROUP / "unified", CGROUP / controller, CGROUP / controllers):
                folder = root / path.strip("/")
                yield from (folder, *folder.parents)


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8").splitlines()
    return []
