"""Write a benchmark's result with hardware and versions.

from record import hardware, versions, write_result
write_result({"hardware": hardware(), "versions": versions(), …}, "bench/results", "score")
"""

import datetime
import json
import platform
import shutil
from importlib import metadata
from pathlib import Path

from visionflows.system import cores

PACKAGES = (
    "torch",
    "torchvision",
    "fastai",
    "timm",
    "openvino",
    "onnxruntime",
    "prefect",
    "pillow",
)


def write_result(result: dict, results: str, name: str) -> None:
    """Print a result and save it as results/DATE-NAME.json."""
    result = {"date": datetime.date.today().isoformat(), **result}
    text = json.dumps(result, indent=2)
    print(text)
    target = Path(results)
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{result['date']}-{name}.json").write_text(text + "\n")


def versions(*names: str) -> dict[str, str]:
    """The versions of Python and the given packages."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names or PACKAGES},
    }


def hardware() -> dict:
    """The CPU, GPU and disk of this machine."""
    import torch

    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu,
        "cores": cores(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bool(torch.cpu._is_avx512_bf16_supported()),
        "gpu": gpu,
        "disk": shutil.disk_usage(".").total >> 30,
    }
