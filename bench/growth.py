"""Measure how listing time, memory, Prefect's overhead and --only-new scale with the files.

    make demo
    python bench/growth.py --model digits --store demo/store --image demo/inbox/0_0000.png
    python bench/growth.py … --sizes 1000000 --measures list run

The files are hard links to one small image, 1,000 a folder. Each measurement runs in its own
process, so that its peak memory is measured separately. Results, with versions and hardware:
bench/results/.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (1_000, 10_000, 100_000, 1_000_000)
# The largest number of files for each measurement, unless --measures names it.
MEASURES = {"list": 1_000_000, "engine": 100_000, "flow": 10_000, "only_new": 10_000, "run": 0}


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(globals()[f"_{options.one}"](options)))
        return
    result = {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as root:
        folder = Path(root) / "in"
        for size in options.sizes:
            grow(folder, Path(options.image), size)
            result[f"{size:,} files"] = row = {"find_seconds": _find(folder)}
            for what, most in MEASURES.items():
                if what in options.measures or (not options.measures and size <= most):
                    row |= _measure(what, options, folder, root)
            if "list_seconds" in row:
                row["list/find"] = round(row["list_seconds"] / row["find_seconds"], 2)
            print(size, json.dumps(row), flush=True)
    _write(options, result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--image", required=True, help="image that all files are hard links to")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=())
    parser.add_argument("--scratch", default=None, help="folder for the files")
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def grow(folder: Path, image: Path, size: int) -> None:
    """Create up to `size` hard links. File systems limit links, so each folder has a copy."""
    for number in range(-(-size // 1000)):
        part = folder / f"{number:04d}"
        if not part.exists():
            part.mkdir(parents=True)
            first = part / "000.png"
            first.write_bytes(image.read_bytes())
            for link in range(1, 1000):
                os.link(first, part / f"{link:03d}.png")


def _find(folder: Path) -> float:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        with open(os.devnull, "w", encoding="utf-8") as devnull:
            # names, sizes and times, sorted, as a listing needs them
            command = f"find '{folder}' -type f -printf '%P %s %T@\\n' | LC_ALL=C sort"
            subprocess.run(command, shell=True, stdout=devnull, check=True)
        seconds.append(time.perf_counter() - began)
    return round(min(seconds), 3)


def _measure(what: str, options, folder: Path, root: str) -> dict:
    command = [sys.executable, __file__, "--one", what, "--folder", str(folder), "--scratch", root]
    for name in ("model", "store", "image"):
        command += [f"--{name}", getattr(options, name)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _list(options) -> dict:
    from visionflows.images.formats import ImageFilter
    from visionflows.scoring.listing import File, Listing
    from visionflows.storage import open_storage

    before, seconds = _peak(), []
    for _ in range(3):
        began = time.perf_counter()
        storage = open_storage(options.folder)
        is_image = ImageFilter(storage.heads)  # as a run does
        listing = Listing(1000)
        listing.start(map(File, is_image(storage.walk())))
        listing.wait()
        seconds.append(time.perf_counter() - began)
    assert listing.found == sum(len(files) for _, _, files in os.walk(options.folder))
    return {"list_seconds": round(min(seconds), 3), "list_grows_by_mb": _peak() - before}


def _score(options, run) -> tuple[dict, float]:
    from visionflows.scoring.settings import ScoreSettings

    output = tempfile.mkdtemp(dir=options.scratch)
    began = time.perf_counter()
    result = run(options.folder, options.model, output, options.store, ScoreSettings())
    return result, time.perf_counter() - began


def _engine(options) -> dict:
    from visionflows.scoring.local_run import score_folder

    result, seconds = _score(options, score_folder)
    assert result["counts"]["ok"] == result["counts"]["found"]
    return {
        "engine_seconds": round(seconds, 2),
        "engine_peak_mb": _peak(),
        "engine_images_per_second": round(result["counts"]["found"] / seconds, 1),
    }


def _flow(options) -> dict:
    from visionflows.scoring.local_run import score_folder

    shares = []
    with _prefect() as score:
        _score(
            argparse.Namespace(**vars(options) | {"folder": _first_folder(options)}), score
        )  # warms up
        for _ in range(3):
            plain, seconds = _score(options, score_folder)[1], _score(options, score)[1]
            shares.append(round(seconds / plain, 3))
    return {"flow/engine": sorted(shares)[1], "flow/engine_rounds": shares}


def _run(options) -> dict:
    """Measure one flow run: seconds, peak memory, task runs."""
    from prefect.client.orchestration import get_client

    with _prefect() as score:
        result, seconds = _score(options, score)
        with get_client(sync_client=True) as client:
            task_runs = client.read_task_runs(limit=200)
    assert result["counts"]["ok"] == result["counts"]["found"]
    return {
        "night_seconds": round(seconds, 1),
        "night_images_per_second": round(result["counts"]["found"] / seconds, 1),
        "night_peak_mb": _peak(),
        "night_task_runs": len(task_runs),
        "night_timings": result["timings"],
    }


@contextlib.contextmanager
def _prefect():
    """The score flow, with a temporary server."""
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        from flows.score import score

        yield lambda source, output, *rest: score(source, rest[0], output, *rest[1:])


def _first_folder(options) -> str:
    return str(Path(options.folder) / "0000")


def _only_new(options) -> dict:
    from visionflows.scoring.local_run import score_folder
    from visionflows.scoring.settings import ScoreSettings

    output = tempfile.mkdtemp(dir=options.scratch)
    settings = ScoreSettings(only_new=True)
    arguments = (options.folder, options.model, output, options.store, settings)
    first = score_folder(*arguments)
    new = [Path(options.folder) / "0000" / f"new-{number}.png" for number in range(10)]
    for path in new:
        path.write_bytes(Path(options.image).read_bytes())
    began = time.perf_counter()
    second = score_folder(*arguments)
    seconds = time.perf_counter() - began
    for path in new:
        path.unlink()
    return {
        "forwarded_at_first": first["timings"]["forwarded"],
        "forwarded_with_10_new": second["timings"]["forwarded"],
        "only_new_seconds": round(seconds, 2),
    }


def _write(options, growth: dict) -> None:
    from record import hardware, versions, write_result

    result = {"hardware": hardware(), "versions": versions(), "growth": growth}
    write_result(result, options.results, "growth")


if __name__ == "__main__":
    main()
