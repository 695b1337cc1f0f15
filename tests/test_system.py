"""Cores and memory, with and without CPU affinity and cgroup limits."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from visionflows import system

GIB = 1 << 30


@pytest.fixture(autouse=True)
def large(monkeypatch, tmp_path) -> Path:
    """A node of 96 cores and 256 GiB without limits; returns its cgroup folder."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 256 * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)), raising=False)
    monkeypatch.setattr(system, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(system, "OWN_CGROUP", tmp_path / "own")
    return tmp_path


def write(folder: Path, own: str, files: dict[str, str]) -> None:
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


ARM = "CPU implementer : 0x41\nCPU part : {}\nFeatures : fp asimd i8mm\n\n"


@pytest.mark.parametrize(
    "text, name",
    [
        ("model name : AMD EPYC 9354\nflags : avx2\n" * 2, "AMD EPYC 9354"),
        (ARM.format("0xd0c") * 2, "(implementer 0x41, part 0xd0c)"),
        (ARM.format("0xd40"), "(implementer 0x41, part 0xd40)"),
        (ARM.format("0xd05") + ARM.format("0xd0b"), "(implementer 0x41, part 0xd05/0xd0b)"),
        ("model name : ARMv7 rev 4\n" + ARM.format("0xc07"), "ARMv7 rev 4 (implementer 0x41, part"),
    ],
)
def test_processors_of_several_kinds_have_several_names(monkeypatch, large, text, name):
    """ARM has no model name on Linux: Graviton 2 and 3 would be one kind of machine."""
    (large / "cpuinfo").write_text(text)
    monkeypatch.setattr(system, "CPU_INFO", large / "cpuinfo")
    assert name in system.processor_name()
    assert "i8mm" in system.cpu_features() or "avx2" in system.cpu_features()


def test_a_machine_without_limits_has_all_cores_and_memory():
    assert (system.cores(), system.memory_bytes(), system.decoder_count()) == (96, 256 * GIB, 96)


@pytest.mark.parametrize(
    "own, files",
    [
        ("0::/\n", {"cpu.max": "200000 100000", "memory.max": f"{16 * GIB}"}),
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000", "a/b/memory.max": f"{16 * GIB}"}),
        (  # limits of the parent apply as well
            "0::/a/b\n",
            {
                **{"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"},
                **{"a/memory.max": f"{16 * GIB}", "a/b/memory.max": "max"},
            },
        ),
        ("0::/a\n", {"a/cpu.max": "200000 100000", "a/memory.high": f"{16 * GIB}"}),
        (  # version 1, each controller with its own tree
            "5:cpu,cpuacct:/a\n4:memory:/b/c\n0::/\n",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
                "memory/b/memory.limit_in_bytes": f"{16 * GIB}",
                "memory/b/c/memory.limit_in_bytes": "9223372036854771712",
            },
        ),
        (  # version 1 inside a container, where its own cgroup is mounted
            "5:cpu:/docker/8f2\n4:memory:/docker/8f2\n",
            {
                **{"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
                "memory/memory.limit_in_bytes": f"{16 * GIB}",
            },
        ),
        ("", {"unified/cpu.max": "200000 100000", "unified/memory.max": f"{16 * GIB}"}),
    ],
)
def test_limits_of_a_cgroup_and_its_parents_apply(large, own, files):
    write(large, own, files)
    assert (system.cores(), system.memory_bytes(), system.decoder_count()) == (2, 16 * GIB, 2)


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "max 100000", "memory.max": "max", "memory.high": "max"},
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        {"cpu.max": "", "memory.max": "x"},
    ],
)
def test_a_cgroup_without_limits(large, files):
    write(large, "0::/\n1:cpu:/\n", files)
    assert (system.cores(), system.memory_bytes()) == (96, 256 * GIB)


def test_little_memory_limits_the_number_of_decoders(large):
    write(large, "0::/\n", {"memory.max": f"{16 * GIB}"})
    assert (system.cores(), system.decoder_count()) == (96, 16)
    assert system.decoder_count(bytes_each=4 * GIB) == 2
    assert system.decoder_count(bytes_each=64 * GIB) == 1


def test_a_system_without_affinity_like_macos(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert (system.cores(), system.decoder_count()) == (10, 10)


def test_a_system_with_unknown_memory(monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: int("x"))
    assert system.memory_bytes() == 4 * GIB


def test_a_limited_address_space():
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 * GIB, 3 * GIB))

    code = "from visionflows.system import memory_bytes; print(memory_bytes())"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, preexec_fn=limited, stdout=subprocess.PIPE, check=True)
    assert int(ran.stdout) <= 3 * GIB


def test_nothing_else_counts_cores_or_memory():
    root = Path(__file__).parents[1]
    asking = ("cpu_count", "sched_getaffinity", "SC_PHYS_PAGES")
    for folder in ("visionflows", "tasks", "flows"):
        for path in (root / folder).rglob("*.py"):
            if path != root / "visionflows/system.py":
                assert not [word for word in asking if word in path.read_text()], path
