"""One run at a time in a prefix, on servers with and without conditional writes.

    with hold("results", "night/.lock/", "s3://results/night", wait=0):
        ...

Whoever wants the lock writes a claim of its own and then lists all claims: if another live one
is there it takes its own back. As a listing shows what was written before it (S3 promises that,
and so do its imitators), of two that come at once at least one sees the other: never do both go
on. This needs no conditional write, and none that is half honoured can break it.

A claim is renewed every few seconds and dies with its process: at once for others on the same
machine, elsewhere when it has not been renewed for a minute, by the server's own clock.
"""

import contextlib
import json
import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from visionflows.errors import LockedError, PlaceError
from visionflows.places.base import ReadFailed
from visionflows.places.s3.client import call
from visionflows.places.s3.listing import keys
from visionflows.places.s3.objects import abort_upload, get, put

log = logging.getLogger("visionflows.s3")

RENEWED = 15.0  # seconds between two signs of life
DEAD = 60.0  # seconds without one
OLD = 24 * 3600.0  # seconds after which an upload that nobody completed is nobody's


@contextlib.contextmanager
def hold(bucket: str, claims: str, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock whose claims lie below a prefix. Raises LockedError, and PlaceError."""
    deadline = time.monotonic() + wait
    key = f"{claims}{secrets.token_hex(8)}"
    while other := _contended(bucket, claims, key):
        if time.monotonic() >= deadline:
            raise LockedError(
                f"{what}: another run is writing here ({other}); wait for it to end, or for a "
                "minute if it was killed on another machine"
            )
        time.sleep(random.uniform(0.2, 1))
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(bucket, key, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        call("delete_object", bucket, Key=key)


def _contended(bucket: str, claims: str, key: str) -> str:
    """Claim; where another holds or wants it too, take that back and say who it is."""
    put(bucket, key, json.dumps(_me()).encode())
    found = list(keys(bucket, claims))
    now = next((claim["LastModified"] for claim in found if claim["Key"] == key), None)
    if now is None:
        return "its claim vanished as soon as it was written"
    for claim in found:
        if claim["Key"] == key:
            continue
        owner = _owner(bucket, claim["Key"])
        age = (now - claim["LastModified"]).total_seconds()
        if owner and age < DEAD and not _is_dead(owner):
            call("delete_object", bucket, Key=key)
            return f"process {owner['pid']} on {owner['host']}"
        call("delete_object", bucket, Key=claim["Key"])
    return ""


def _owner(bucket: str, key: str) -> dict | None:
    try:
        return json.loads(get(bucket, key)[0])
    except (FileNotFoundError, ReadFailed):
        return None  # it was let go in the meantime


def _me() -> dict:
    return {**_machine(), "host": socket.gethostname(), "pid": os.getpid(), "born": _born("self")}


def _machine() -> dict[str, str]:
    """What tells this machine, and this container's view of its processes, from every other."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"machine": f"{boot} {os.readlink('/proc/self/ns/pid')}"}
    return {"machine": ""}


def _born(pid: int | str) -> str:
    """When a process was started, in ticks since boot; empty where there is none (or no /proc)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _is_dead(owner: dict) -> bool:
    """Whether a claim's process is known to have ended: of other machines nothing is known."""
    here = _machine()["machine"]
    return bool(here) and owner["machine"] == here and _born(owner["pid"]) != owner["born"]


def _renew(bucket: str, key: str, ended: threading.Event) -> None:
    while not ended.wait(RENEWED):
        try:
            put(bucket, key, json.dumps(_me()).encode())
        except PlaceError as error:
            log.warning("the lock could not be renewed: %s", error)


def clear_uploads(bucket: str, prefix: str, age: float = 0.0) -> None:
    """Abort uploads that nobody completes: in a prefix or a folder of it, `age` seconds old.

    Not further down, where other runs may have their own places.
    """
    try:
        found = call("list_multipart_uploads", bucket, Prefix=prefix).get("Uploads", ())
    except PlaceError as error:
        log.info("unfinished uploads are not looked for: %s", error)
        return
    for upload in found:
        name = upload["Key"].removeprefix(prefix)
        ours = upload["Key"].startswith(prefix) and name.count("/") <= 1
        if ours and time.time() - upload["Initiated"].timestamp() > age:
            abort_upload(bucket, upload["Key"], upload["UploadId"])
