"""One run at a time in a place whose server has no locks: by claims, which are files there.

    from visionflows.storage.s3.lease import hold
    with hold(place("s3://results/night"), ".lock", wait=0):
        ...

Whoever wants the lock writes a claim of its own and then lists all claims: if another live one
is there it takes its own back. As a listing shows what was written before it (S3 promises that,
and so do its imitators), of two that come at once at least one sees the other: never do both go
on. No conditional write is needed, and none that is half honoured can break it.

A claim is renewed every few seconds and dies with its process: at once for others on the same
machine, elsewhere when it has not been renewed for a minute, by the server's own clock. One that
cannot be read is held. Who was taken for dead (a machine that slept) learns it by `check`.
"""

import contextlib
import datetime
import json
import logging
import random
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from visionflows.errors import LockedError, StorageError
from visionflows.storage.base import ReadFailed, Storage
from visionflows.storage.s3.lock_owner import is_dead, me

log = logging.getLogger("visionflows.claims")

RENEWED = 15.0  # seconds between two signs of life
DEAD = 60.0  # seconds without one


class Dated(Storage, Protocol):
    """A place that says when its files were written."""

    def written(self, name: str) -> dict[str, datetime.datetime]: ...


_held: list[tuple[Dated, str]] = []  # the places that this process has locked, and its claims


@contextlib.contextmanager
def hold(here: Dated, name: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of that name in a place. Raises LockedError, and PlaceError."""
    deadline = time.monotonic() + wait
    claim = f"{name}/{secrets.token_hex(8)}"
    while other := _contended(here, name, claim):
        if time.monotonic() >= deadline:
            raise LockedError(f"{here}: {other}")
        time.sleep(random.uniform(0.2, 1))
    held, ended = (here, claim), threading.Event()
    renewing = threading.Thread(target=_renew, args=(here, claim, ended), daemon=True)
    _held.append(held)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        _held.remove(held)
        try:
            here.remove(claim)
        except (StorageError, OSError) as error:  # what was done is done, or tells of itself
            log.warning("%s: its lock stays for a minute, and dies then: %s", here, error)


def check(here: Storage, name: str) -> None:
    """Nothing, if what this process holds there is still its own. Raises LockedError."""
    for storage, claim in list(_held):
        if f"{here}/{name}".startswith(f"{storage}/") and not storage.exists(claim):
            raise LockedError(
                f"{storage}: another run took this over, as nothing was heard of this one for a "
                "minute; wait for it to end"
            )


def _contended(here: Dated, name: str, own: str) -> str:
    """Claim; where another holds or wants it too, take that back and say who it is."""
    here.write(own, json.dumps(me()).encode())
    found = here.written(name)
    if own not in found:
        return "its claim vanished as soon as it was written; try again"
    for claim in found.keys() - {own}:
        other = _held_by(here, claim, (found[own] - found[claim]).total_seconds())
        here.remove(own if other else claim)
        if other:
            return other
    return ""


def _held_by(here: Dated, claim: str, age: float) -> str:
    """Whose a claim is, and what to do about it; empty if it is nobody's any more."""
    try:
        owner = json.loads(here.read(claim))
        dead, whose = is_dead(owner) or age >= DEAD, f"process {owner['pid']} on {owner['host']}"
    except FileNotFoundError:
        return ""  # it was let go in the meantime
    except (ReadFailed, ValueError, LookupError, TypeError):
        return f"{claim} cannot be read, and may be another run's; if none is there, delete it"
    wait = "wait for it to end, or for a minute if it was killed on another machine"
    return "" if dead else f"another run is writing here ({whose}); {wait}"


def _renew(here: Dated, claim: str, ended: threading.Event) -> None:
    while not ended.wait(RENEWED):
        try:
            here.write(claim, json.dumps(me()).encode())
        except LockedError:
            return  # what another run took away stays away
        except StorageError as error:
            log.warning("the lock could not be renewed: %s", error)
