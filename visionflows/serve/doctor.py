"""Check what this machine needs for a run, and say what to do about each problem.

ok: fine; note: works, but slower or with less; FAIL: a run would fail.
"""

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

from visionflows.errors import VisionflowsError
from visionflows.inference.openvino import native_kernels, unavailable_reason
from visionflows.orchestration import server
from visionflows.orchestration.preflight import bypass_proxies, check_folders
from visionflows.serve.settings import POOL
from visionflows.storage import check_access, open_storage
from visionflows.storage.base import Storage
from visionflows.system import cores, memory_bytes

_READ_ONLY = "nothing to score what is there into another --output; else allow writing"
_NEEDED_SHM = 1 << 30  # bytes; a loader worker's batch of 64 photos is 38 MB, several wait


class Finding(NamedTuple):
    """The result of a check, and what to do about it."""

    status: Literal["ok", "note", "FAIL"]
    subject: str
    message: str
    fix: str = ""


def examine(locations: Iterable[str]) -> Iterator[Finding]:
    """Run every check: versions, machine, engine, GPU, folders, locations, server."""
    bypass_proxies()
    yield from check_versions()
    yield check_machine()
    yield check_engine()
    yield check_gpu()
    yield check_folder_access()
    for location in locations:
        yield from check_location(location)
    yield check_server()


def check_versions() -> Iterator[Finding]:
    """Python, and each required library with its version."""
    from packaging.requirements import Requirement

    yield Finding("ok", "Python", f"{platform.python_version()} ({sys.executable})")
    failures, versions = [], []
    for line in metadata.requires("visionflows") or []:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        message = "not installed"
        with contextlib.suppress(metadata.PackageNotFoundError):
            found = metadata.version(need.name)
            versions.append(f"{need.name} {found}")
            if need.specifier.contains(found, prereleases=True):
                continue
            message = f"{found} does not match {need.specifier}"
        failures.append(Finding("FAIL", need.name, message, f"pip install '{need}'"))
    yield from failures or [Finding("ok", "libraries", ", ".join(versions))]


def check_machine() -> Finding:
    """Cores, memory, and the shared memory in which loader processes pass batches."""
    message = f"{cores()} cores, {memory_bytes() >> 30} GiB memory"
    if Path("/dev/shm").is_dir():
        shared = shutil.disk_usage("/dev/shm").total
        message += f", {shared / 2**30:.1f} GiB shared memory"
        if shared < _NEEDED_SHM:
            fix = "give the container more (--shm-size 8g), or train with --workers 0"
            return Finding("note", "machine", message, fix)
    return Finding("ok", "machine", message)


def check_folder_access() -> Finding:
    """Whether Prefect's folder and the folder for temporary files are writable."""
    try:
        check_folders()
    except VisionflowsError as error:
        return _failure("folders", error)
    return Finding("ok", "folders", f"home {Path.home()}, temporary {tempfile.gettempdir()}")


def _failure(subject: str, error: VisionflowsError) -> Finding:
    """Our errors say what is wrong and, after a semicolon, what to do."""
    message, _, fix = str(error).rpartition("; ")
    return Finding("FAIL", subject, message, fix)


def check_engine() -> Finding:
    """The engine that scores on the CPU."""
    if absent := unavailable_reason():
        fix = "nothing, if that is fast enough; else pip install openvino, where it has a build"
        return Finding("note", "engine", f"{absent}: torch scores on the CPU", fix)
    native = [f"{name} by {kernel}" for name, kernel in native_kernels().items() if kernel]
    message = ", ".join(native) or "the processor has no int8 or bfloat16 kernels"
    return Finding("ok", "engine", f"OpenVINO {metadata.version('openvino')}: {message}")


def check_gpu() -> Finding:
    """Whether GPU, driver and torch work together: a product is computed."""
    driver = _driver()
    if importlib.util.find_spec("torch") is None:
        message = "not installed: this machine scores on its CPU and cannot train"
        if driver:
            fix = "pip install 'visionflows[train]' to use the GPU"
            return Finding("note", "torch", f"{message}, though there is a GPU ({driver})", fix)
        return Finding("ok", "torch", message)
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("FAIL", "torch", f"cannot be imported ({error})", "install torch again")
    if torch.cuda.is_available():
        return _compute(torch, driver)
    if not driver:
        return Finding("ok", "GPU", "no NVIDIA GPU or driver; runs use the CPU")
    if not torch.version.cuda:
        fix = "install torch built for CUDA: pip install --force-reinstall torch torchvision"
        return Finding("note", "GPU", f"{driver}, but torch {torch.__version__} is CPU-only", fix)
    message = f"{driver}, but torch {torch.__version__} for CUDA {torch.version.cuda} cannot use it"
    fix = "update the driver, or install torch for an older CUDA; see `nvidia-smi`"
    return Finding("FAIL", "GPU", message, fix)


def _compute(torch: Any, driver: str) -> Finding:
    name, memory = torch.cuda.get_device_name(0), torch.cuda.mem_get_info(0)
    message = f"{name}, {memory[0] >> 30} of {memory[1] >> 30} GiB free, CUDA {torch.version.cuda}"
    message += f", {driver}" if driver else ""
    try:
        ones = torch.ones(64, 64, device="cuda")
        if float((ones @ ones).sum()) != 64.0**3:
            return Finding("FAIL", "GPU", f"{message}: wrong results", "do not use this GPU")
    except RuntimeError as error:  # torch has no kernels for this GPU, or its memory is full
        fix = "see `nvidia-smi`: free its memory, or install a torch that supports this GPU"
        return Finding("FAIL", "GPU", f"{message}: {str(error).splitlines()[0]}", fix)
    return Finding("ok", "GPU", message)


def _driver() -> str:
    """`driver 570.86` of an NVIDIA GPU; empty if there is none."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
        lines = answer.stdout.split()
        if answer.returncode == 0 and lines:
            return f"driver {lines[0]}"
        return f"nvidia-smi fails ({(answer.stdout or answer.stderr).strip()[:80]})"
    return ""


def check_location(location: str) -> Iterator[Finding]:
    """Whether a location can be listed, read, written and cleared; to score, reading is enough."""
    try:
        folder = open_storage(location)
        if folder.is_local:
            yield _check_folder(location, folder)
            return
        found = {operation: (works, why) for operation, works, why in check_access(location)}
    except VisionflowsError as error:
        yield Finding("FAIL", location, str(error))
        return
    can_read = all(found.get(operation, (False, ""))[0] for operation in ("list", "read"))
    for operation, (works, why) in found.items():
        subject = f"{location} {operation}"
        if works:
            yield Finding("ok", subject, "works")
        elif can_read:
            yield Finding("note", subject, why, _READ_ONLY)
        else:
            yield Finding("FAIL", subject, why)


def _check_folder(location: str, folder: Storage) -> Finding:
    try:
        folder.check_writable()
    except VisionflowsError as error:
        path = folder.path()
        if path and os.access(path, os.R_OK | os.X_OK):
            return Finding("note", location, str(error), _READ_ONLY)
        return Finding(
            "FAIL", location, str(error), "create it, or change its owner or permissions"
        )
    free = folder.free_bytes()
    space = f", {free / 2**30:.0f} GiB free" if free is not None else ""
    return Finding("ok", location, f"writable{space}")


def check_server() -> Finding:
    """The configured Prefect server: whether it answers, its version and workers."""
    subject = "Prefect server"
    try:
        url = server.url()
    except RuntimeError as error:  # Prefect needs a home as soon as it is imported
        return Finding("FAIL", subject, f"not checked: {error}", "fix the folders first")
    if not url:
        fix = "`visionflows up` starts one; then set PREFECT_API_URL=http://127.0.0.1:4200/api"
        return Finding("note", subject, "none is set; commands work without one", fix)
    try:
        version = server.read_version()
    except VisionflowsError as error:
        return _failure(subject, error)
    installed, message = metadata.version("prefect"), f"{url}, version {version}"
    if version != installed:
        return Finding("note", subject, message, f"this is Prefect {installed}; use one version")
    online = _count_workers()
    if not online:
        fix = f"start one: python3 -P -m visionflows.cli.prefect worker start --pool {POOL}"
        return Finding("note", subject, f"{message}, but no worker is online", fix)
    return Finding("ok", subject, f"{message}, {online} worker(s)")


def _count_workers() -> int:
    """How many workers of the pool are online."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client, contextlib.suppress(PrefectHTTPStatusError):
        workers = client.read_workers_for_work_pool(POOL)
        return sum(worker.status.value == "ONLINE" for worker in workers)
    return 0  # there is no such pool
