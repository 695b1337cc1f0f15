"""What this machine lacks before a run finds out: each finding with what to do.

    visionflows doctor
    visionflows doctor s3://bucket/inbox

ok: as it should be; note: works, though slower or less than it could; FAIL: a run would fail.
"""

import contextlib
import importlib.util
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
from visionflows.inference.openvino import kernels, why_absent
from visionflows.orchestration.preflight import (
    folders_can_be_written,
    loopback_past_proxies,
    named_server,
    server_answers,
)
from visionflows.serve.settings import POOL
from visionflows.storage import is_local, open_storage
from visionflows.system import cores, memory_bytes

_NEEDED_SHM = 1 << 30  # bytes; a loader worker's batch of 64 photos is 38 MB, several wait


class Finding(NamedTuple):
    """How something is, in a line, and what to do about it if anything."""

    mark: Literal["ok", "note", "FAIL"]
    what: str
    message: str
    todo: str = ""


def examine(locations: Iterable[str]) -> Iterator[Finding]:
    """Every finding, as soon as it is known: versions, machine, engine, places, the server."""
    loopback_past_proxies()
    yield from versions()
    yield machine()
    yield check_engine()
    yield gpu()
    yield folders()
    for where in locations:
        yield from reach(where)
    yield server()


def versions() -> Iterator[Finding]:
    """Python, and each library that visionflows requires, against what it requires."""
    from packaging.requirements import Requirement

    said = f"{platform.python_version()} ({sys.executable})"
    yield Finding("ok", "Python", said)
    wrong, names = [], []
    for line in metadata.requires("visionflows") or []:
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            wrong.append(Finding("FAIL", need.name, "not installed", f"pip install '{need}'"))
            continue
        names.append(f"{need.name} {found}")
        if not need.specifier.contains(found, prereleases=True):
            said = f"{found} does not fit {need.specifier}"
            wrong.append(Finding("FAIL", need.name, said, f"pip install '{need}'"))
    yield from wrong
    if not wrong:
        yield Finding("ok", "libraries", ", ".join(names))


def machine() -> Finding:
    """Cores, memory, and the shared memory that loader processes hand their batches over in."""
    said = f"{cores()} cores, {memory_bytes() >> 30} GiB memory"
    if Path("/dev/shm").is_dir():
        shared = shutil.disk_usage("/dev/shm").total
        said += f", {shared / 2**30:.1f} GiB shared memory"
        if shared < _NEEDED_SHM:
            todo = "give the container more (--shm-size 8g), or train with --workers 0"
            return Finding("note", "machine", said, todo)
    return Finding("ok", "machine", said)


def folders() -> Finding:
    """Whether Prefect and temporary files have a folder that may be written."""
    try:
        folders_can_be_written()
    except VisionflowsError as error:
        return _failed("folders", error)
    return Finding("ok", "folders", f"home {Path.home()}, temporary {tempfile.gettempdir()}")


def _failed(what: str, error: VisionflowsError) -> Finding:
    """Our errors say what is wrong and, after a semicolon, what to do."""
    said, _, todo = str(error).rpartition("; ")
    return Finding("FAIL", what, said, todo)


def check_engine() -> Finding:
    """What scores on the CPU here."""
    absent = why_absent()
    if not absent:
        native = [f"{precision} by {kernel}" for precision, kernel in kernels().items() if kernel]
        said = ", ".join(native) or "neither int8 nor bfloat16 of the processor's own"
        return Finding("ok", "engine", f"OpenVINO {metadata.version('openvino')}: {said}")
    todo = "nothing, if that is fast enough; else pip install openvino, where it has a build"
    return Finding("note", "engine", f"{absent}: torch scores on the CPU", todo)


def gpu() -> Finding:
    """Whether the GPU, its driver and this torch fit each other: a product is computed on it."""
    if importlib.util.find_spec("torch") is None:
        said = "not installed: this machine scores on its CPU and trains nothing"
        if driver := _driver():
            todo = "pip install 'visionflows[train]' to use the GPU"
            return Finding("note", "torch", f"{said}, though there is a GPU ({driver})", todo)
        return Finding("ok", "torch", said)
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("FAIL", "torch", f"cannot be imported ({error})", "install torch again")
    driver = _driver()
    if torch.cuda.is_available():
        return _computes(torch, driver)
    if not driver:
        return Finding("ok", "GPU", "no NVIDIA GPU or driver here; runs use the CPU")
    if not torch.version.cuda:
        todo = "install torch built for CUDA: pip install --force-reinstall torch torchvision"
        return Finding("note", "GPU", f"{driver}, but torch {torch.__version__} is CPU-only", todo)
    said = f"{driver}, but torch {torch.__version__} for CUDA {torch.version.cuda} cannot use it"
    todo = "update the driver, or install torch for an older CUDA; see `nvidia-smi`"
    return Finding("FAIL", "GPU", said, todo)


def _computes(torch: Any, driver: str) -> Finding:
    name, memory = torch.cuda.get_device_name(0), torch.cuda.mem_get_info(0)
    said = f"{name}, {memory[0] >> 30} of {memory[1] >> 30} GiB free, CUDA {torch.version.cuda}"
    said += f", {driver}" if driver else ""
    try:
        ones = torch.ones(64, 64, device="cuda")
        right = float((ones @ ones).sum()) == 64.0**3
    except RuntimeError as error:  # a build without kernels for it, or a GPU that is full
        todo = "see `nvidia-smi`: free its memory, or install a torch that supports this GPU"
        return Finding("FAIL", "GPU", f"{said}: {str(error).splitlines()[0]}", todo)
    if not right:
        return Finding("FAIL", "GPU", f"{said}: computes wrongly", "do not use this GPU")
    return Finding("ok", "GPU", said)


def _driver() -> str:
    """`driver 570.86` where there is one, else an empty string."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20)
        lines = answer.stdout.split()
        if answer.returncode == 0 and lines:
            return f"driver {lines[0]}"
        return f"nvidia-smi fails ({(answer.stdout or answer.stderr).strip()[:80]})"
    return ""


def reach(where: str) -> Iterator[Finding]:
    """Whether a place can be listed, read, written and cleared."""
    if not is_local(where):
        yield from _reach_s3(where)
        return
    try:
        folder = open_storage(where)
        folder.check_writable()
    except VisionflowsError as error:
        yield Finding("FAIL", where, str(error), "make it, or change its owner or rights")
        return
    free = folder.free_bytes()
    told = f", {free / 2**30:.0f} GiB free" if free is not None else ""
    yield Finding("ok", where, f"writable{told}")


def _reach_s3(where: str) -> Iterator[Finding]:
    """Whether a bucket's prefix can be listed, written, read and cleared: by trying."""
    try:
        from visionflows.storage.access_check import check_access

        for step, works, trouble in check_access(where):
            said = "works" if works else trouble
            yield Finding("ok" if works else "FAIL", f"{where} {step}", said)
    except VisionflowsError as error:
        yield Finding("FAIL", where, str(error))


def server() -> Finding:
    """The Prefect server that is named: its answer, version and workers."""
    try:
        url = named_server()
    except RuntimeError as error:  # Prefect asks for a home as soon as it is imported
        return Finding("FAIL", "Prefect server", f"not asked: {error}", "see to the folders first")
    if not url:
        todo = "`visionflows up` starts one; then set PREFECT_API_URL=http://127.0.0.1:4200/api"
        return Finding("note", "Prefect server", "none is set; commands work without one", todo)
    try:
        version = server_answers()
    except VisionflowsError as error:
        return _failed("Prefect server", error)
    ours, said = metadata.version("prefect"), f"{url}, version {version}"
    if version != ours:
        return Finding("note", "Prefect server", said, f"this is Prefect {ours}; use one version")
    online = _workers()
    if not online:
        todo = "start one: prefect worker start --pool visionflows"
        return Finding("note", "Prefect server", f"{said}, but no worker is online", todo)
    return Finding("ok", "Prefect server", f"{said}, {online} worker(s)")


def _workers() -> int:
    """How many workers of the pool are online."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        try:
            pool = client.read_workers_for_work_pool(POOL)
        except PrefectHTTPStatusError:  # there is no such pool
            return 0
    return sum(worker.status.value == "ONLINE" for worker in pool)
