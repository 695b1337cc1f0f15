"""Score as if on another machine: many cores with little memory, or a system without affinity.

    python bench/node.py --photos big --model pets --store store --cores 96 --memory 16
    python bench/node.py --photos big --model pets --store store --macos

The cores of the CPU affinity and the memory of the cgroup are replaced by those of that machine.
macOS has neither. The output has the counts, the run's limits, and the peak memory of the process.
"""

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", default="store")
    parser.add_argument("--cores", type=int, default=96)
    parser.add_argument("--memory", type=float, default=16, help="GiB of the cgroup")
    parser.add_argument("--macos", action="store_true", help="without affinity and cgroups")
    parser.add_argument("--decode", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pretend(options, Path(folder))
        print(json.dumps(score(options, folder), indent=2))


def pretend(options: argparse.Namespace, folder: Path) -> None:
    """Replace the cores and memory that this process sees."""
    from visionflows import system

    system.OWN_CGROUP = folder / "none"
    system.CGROUP = folder / "cgroup"
    os.cpu_count = lambda: options.cores
    if options.macos:
        del os.sched_getaffinity
        return
    system.CGROUP.mkdir()
    (system.CGROUP / "memory.max").write_text(f"{int(options.memory * (1 << 30))}\n")
    os.sched_getaffinity = lambda pid: set(range(options.cores))


def score(options: argparse.Namespace, folder: str) -> dict:
    from visionflows import system
    from visionflows.scoring.local_run import score_folder
    from visionflows.scoring.settings import ScoreSettings

    settings = ScoreSettings(decode=options.decode, max_error_rate=1)
    run = score_folder(options.photos, options.model, f"{folder}/out", options.store, settings)
    return {
        "cores": system.cores(),
        "memory_gib": round(system.memory_bytes() / (1 << 30), 1),
        "limits": run["limits"],
        "counts": run["counts"],
        "timings": run["timings"],
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 2),
    }


if __name__ == "__main__":
    main()
