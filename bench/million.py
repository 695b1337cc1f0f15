"""A million files on Ray: the driver's memory as they grow, what Prefect is asked, the first row.

    python bench/million.py --image demo/inbox/0_0000.png --model digits --store demo/store
    python bench/million.py … --sizes 10000 100000 1000000 --on local

The files are hard links of one small image, a thousand a folder, so that a tiny network is fed as
fast as it can be. The command runs as people run it, on a Prefect server that counts. Its memory
is that of its own process (Ray's and the actor's are theirs), looked at twice a second; seconds
count from its start, and `listed` from its first line on. Results: bench/results/.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from counting_server import Server, counting_server
from growth import grow
from record import hardware, versions, written

OFTEN = 0.5  # seconds between two looks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="the image all files are links of")
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=(10_000, 100_000, 1_000_000))
    parser.add_argument("--on", default="ray")
    parser.add_argument("--scratch", default=None, help="where the files are made, on its disk")
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as root:
        for size in options.sizes:
            grow(Path(root) / "in", Path(options.image), size)
            with counting_server() as server:
                found[f"{size:,} files"] = told = _scored(options, Path(root), server)
            print(size, json.dumps(told), flush=True)
    about = {"hardware": hardware(), "versions": versions("ray", "prefect", "openvino", "pillow")}
    written(
        {**about, "on": options.on, "model": options.model, **found}, options.results, "million"
    )


def _scored(options, root: Path, server: Server) -> dict:
    """One run of the command, watched until it ends."""
    output = root / "out"
    words = [sys.executable, "-m", "visionflows.cli", "score", str(root / "in")]
    words += ["--model", options.model, "--store", options.store, "--output", str(output)]
    began = time.perf_counter()
    environment = os.environ | {"PREFECT_API_URL": server.url}
    process = subprocess.Popen([*words, "--on", options.on], env=environment)
    memory, first = _watched(process, output, began)
    assert process.returncode == 0, process.returncode
    seconds = time.perf_counter() - began
    server.settle()
    run = json.loads((output / "run.json").read_text())
    assert run["counts"]["ok"] == run["counts"]["found"], run["counts"]
    shutil.rmtree(output)
    return {
        "seconds": round(seconds, 1),
        "seconds_of_the_run": run["timings"]["seconds"],
        "images_per_second": run["timings"]["images_per_second"],
        "seconds_to_the_first_row": round(first, 1),
        "driver_mb": _memory(memory),
        "task_runs": server.task_runs(),
        "asked_of_prefect": server.told(),
    }


def _watched(process: subprocess.Popen, output: Path, began: float) -> tuple[list[int], float]:
    """Memory (bytes) at every look from the first row on, and the seconds until that."""
    driver, memory, first = psutil.Process(process.pid), [], 0.0
    while process.poll() is None:
        if not first and (output / "parts/part-00000.json").exists():
            first = time.perf_counter() - began
        if first:
            try:
                memory.append(driver.memory_info().rss)
            except psutil.NoSuchProcess:
                break
        time.sleep(OFTEN)
    process.wait()
    return memory, first


def _memory(looks: list[int]) -> dict:
    """MB in each tenth of the time from the first row on: its median; and the most there was."""
    tenth = max(len(looks) // 10, 1)
    tenths = [looks[at : at + tenth] for at in range(0, len(looks), tenth)][:10]
    medians = [round(statistics.median(some) / 2**20) for some in tenths]
    return {"tenths": medians, "most": max(looks) >> 20}


if __name__ == "__main__":
    main()
