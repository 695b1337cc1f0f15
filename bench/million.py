"""Score a million files on Ray: driver memory, requests to Prefect, time to the first row.

    python bench/million.py --image demo/inbox/0_0000.png --model digits --store demo/store
    python bench/million.py … --sizes 10000 100000 1000000 --on local

The files are hard links to one small image, 1,000 a folder. Use a tiny model, so that the network
does not limit the rate. The command runs with a Prefect server that counts requests. Memory is that
of the driver process, sampled twice a second. Seconds count from the start of the command. Results:
bench/results/.
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
from record import hardware, versions, write_result

INTERVAL = 0.5  # seconds between memory samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True, help="image that all files are hard links to")
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=(10_000, 100_000, 1_000_000))
    parser.add_argument("--on", default="ray")
    parser.add_argument("--scratch", default=None, help="folder for the files")
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as root:
        for size in options.sizes:
            grow(Path(root) / "in", Path(options.image), size)
            with counting_server() as server:
                results[f"{size:,} files"] = result = _score(options, Path(root), server)
            print(size, json.dumps(result), flush=True)
    about = {"hardware": hardware(), "versions": versions("ray", "prefect", "openvino", "pillow")}
    write_result(
        {**about, "on": options.on, "model": options.model, **results}, options.results, "million"
    )


def _score(options, root: Path, server: Server) -> dict:
    """Run the command once, and return its figures."""
    output = root / "out"
    command = [sys.executable, "-m", "visionflows.cli", "score", str(root / "in")]
    command += ["--model", options.model, "--store", options.store, "--output", str(output)]
    began = time.perf_counter()
    environment = os.environ | {"PREFECT_API_URL": server.url}
    process = subprocess.Popen([*command, "--on", options.on], env=environment)
    memory, first = _watch(process, output, began)
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
        "asked_of_prefect": server.counts(),
    }


def _watch(process: subprocess.Popen, output: Path, began: float) -> tuple[list[int], float]:
    """Memory samples (bytes) from the first row on, and the seconds until the first row."""
    driver, memory, first = psutil.Process(process.pid), [], 0.0
    while process.poll() is None:
        if not first and (output / "parts/part-00000.json").exists():
            first = time.perf_counter() - began
        if first:
            try:
                memory.append(driver.memory_info().rss)
            except psutil.NoSuchProcess:
                break
        time.sleep(INTERVAL)
    process.wait()
    return memory, first


def _memory(samples: list[int]) -> dict:
    """Median MB in each tenth of the time since the first row, and the maximum."""
    size = max(len(samples) // 10, 1)
    tenths = [samples[at : at + size] for at in range(0, len(samples), size)][:10]
    medians = [round(statistics.median(tenth) / 2**20) for tenth in tenths]
    return {"tenths": medians, "most": max(samples) >> 20}


if __name__ == "__main__":
    main()
