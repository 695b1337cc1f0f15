"""What more files cost: time to list, memory to score, what Prefect adds, what --only-new saves.

    make demo
    python bench/growth.py --model digits --store demo/store --image demo/inbox/0_0000.png
    python bench/growth.py … --sizes 1000000 --measures list night

The files are hard links of one small image, a thousand a folder. Every measurement is a process of
its own, so that its peak memory is its own. Results, with versions and hardware: bench/results/.
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
# What is measured of how many files at most, unless it is asked for.
MEASURES = {"list": 1_000_000, "engine": 100_000, "flow": 10_000, "only_new": 10_000, "night": 0}


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
                    row |= _measured(what, options, folder, root)
            if "list_seconds" in row:
                row["list/find"] = round(row["list_seconds"] / row["find_seconds"], 2)
            print(size, json.dumps(row), flush=True)
    _write(options, result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--image", required=True, help="the image all files are links of")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=())
    parser.add_argument("--scratch", default=None, help="where the files are made, on its disk")
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def grow(folder: Path, image: Path, size: int) -> None:
    """Links up to `size`; a disk allows a file some ten thousand, so each folder has a copy."""
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
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            # what listing needs too: names, sizes and times, sorted
            command = f"find '{folder}' -type f -printf '%P %s %T@\\n' | LC_ALL=C sort"
            subprocess.run(command, shell=True, stdout=nowhere, check=True)
        seconds.append(time.perf_counter() - began)
    return round(min(seconds), 3)


def _measured(what: str, options, folder: Path, root: str) -> dict:
    command = [sys.executable, __file__, "--one", what, "--folder", str(folder), "--scratch", root]
    for name in ("model", "store", "image"):
        command += [f"--{name}", getattr(options, name)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(told.stdout.splitlines()[-1])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def _list(options) -> dict:
    from visionflows.images.formats import ImageFilter
    from visionflows.scoring.listing import File, Listing
    from visionflows.storage import open_storage

    before, seconds = _peak(), []
    for _ in range(3):
        began = time.perf_counter()
        where = open_storage(options.folder)
        pictures = ImageFilter(where.head)  # as a run chooses
        listing = Listing(1000)
        listing.start(File(one) for one in where.walk() if pictures(one.name))
        listing.wait()
        seconds.append(time.perf_counter() - began)
    assert listing.found == sum(len(files) for _, _, files in os.walk(options.folder))
    return {"list_seconds": round(min(seconds), 3), "list_grows_by_mb": _peak() - before}


def _scored(options, run) -> tuple[dict, float]:
    from visionflows.scoring.settings import ScoreSettings

    output = tempfile.mkdtemp(dir=options.scratch)
    began = time.perf_counter()
    result = run(options.folder, options.model, output, options.store, ScoreSettings())
    return result, time.perf_counter() - began


def _engine(options) -> dict:
    from visionflows.scoring.local_run import score_folder

    result, seconds = _scored(options, score_folder)
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
        _scored(argparse.Namespace(**vars(options) | {"folder": _few(options)}), score)  # warms up
        for _ in range(3):
            plain, seconds = _scored(options, score_folder)[1], _scored(options, score)[1]
            shares.append(round(seconds / plain, 3))
    return {"flow/engine": sorted(shares)[1], "flow/engine_rounds": shares}


def _night(options) -> dict:
    """One flow run: what it costs this process and its server."""
    from prefect.client.orchestration import get_client

    with _prefect() as score:
        result, seconds = _scored(options, score)
        with get_client(sync_client=True) as client:
            told = client.read_task_runs(limit=200)
    assert result["counts"]["ok"] == result["counts"]["found"]
    return {
        "night_seconds": round(seconds, 1),
        "night_images_per_second": round(result["counts"]["found"] / seconds, 1),
        "night_peak_mb": _peak(),
        "night_task_runs": len(told),
        "night_timings": result["timings"],
    }


@contextlib.contextmanager
def _prefect():
    """The score flow, on a server for this process."""
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        from flows.score import score

        yield lambda source, output, *rest: score(source, rest[0], output, *rest[1:])


def _few(options) -> str:
    return str(Path(options.folder) / "0000")


def _only_new(options) -> dict:
    from visionflows.scoring.local_run import score_folder
    from visionflows.scoring.settings import ScoreSettings

    output = tempfile.mkdtemp(dir=options.scratch)
    settings = ScoreSettings(only_new=True)
    where = (options.folder, options.model, output, options.store, settings)
    first = score_folder(*where)
    new = [Path(options.folder) / "0000" / f"new-{number}.png" for number in range(10)]
    for path in new:
        path.write_bytes(Path(options.image).read_bytes())
    began = time.perf_counter()
    second = score_folder(*where)
    seconds = time.perf_counter() - began
    for path in new:
        path.unlink()
    return {
        "forwarded_at_first": first["timings"]["forwarded"],
        "forwarded_with_10_new": second["timings"]["forwarded"],
        "only_new_seconds": round(seconds, 2),
    }


def _write(options, result: dict) -> None:
    from record import hardware, versions, written

    found = {"hardware": hardware(), "versions": versions(), "growth": result}
    written(found, options.results, "growth")


if __name__ == "__main__":
    main()
