"""Leases in a bucket: of dead runs, of other machines, lost, and unreadable."""

import concurrent.futures
import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from visionflows.errors import LockedError, StorageError
from visionflows.storage.base import ReadFailed
from visionflows.storage.s3 import lease, listing, objects
from visionflows.storage.s3.client import call

ROOT = Path(__file__).parents[2]
OTHER = {"machine": "another", "host": "there", "pid": 1, "started": "1"}


def test_a_lock_of_another_machine_blocks_until_it_is_no_longer_renewed(bucket, monkeypatch):
    bucket.write(".lock/0123", json.dumps(OTHER).encode())
    with pytest.raises(LockedError, match="process 1 on there"), bucket.lock(".lock"):
        pass
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 1)
    with bucket.lock(".lock", wait=20):
        pass


def test_a_lock_is_renewed(bucket, monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.2)
    monkeypatch.setattr(lease, "is_dead", lambda owner: False)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 2)
    with bucket.lock(".lock"):
        time.sleep(3)
        with pytest.raises(LockedError), bucket.lock(".lock"):
            pass


def test_an_unreadable_lease_counts_as_held_and_stays(bucket, monkeypatch):
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 0)
    for content in (b"{", b"[]", b'{"host": "there"}', b"\xff"):
        bucket.write(".lock/0123", content)
        with pytest.raises(LockedError, match=r"\.lock/0123 cannot be read"), bucket.lock(".lock"):
            pass
        assert bucket.read(".lock/0123") == content
    bucket.remove(".lock/0123")
    with bucket.lock(".lock"):
        pass


def test_a_holder_that_lost_its_lease_writes_no_more(bucket, monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.2)
    out, beside = bucket.sub("out"), bucket.sub("beside")
    with out.lock(".lock"):
        out.write("parts/1", b"mine")
        (claim,) = out.names(".lock")
        call("delete_object", out.bucket, Key=f"{out.prefix}.lock/{claim}")
        time.sleep(0.5)  # renewing does not create it again
        for change in (
            lambda: out.write("run.json", b"stale"),
            lambda: out.sub("parts").write("2", b"stale"),
            lambda: out.remove("parts"),
            lambda: out.rename("parts", "previous"),
        ):
            with pytest.raises(LockedError, match="another run took over the lock"):
                change()
        beside.write("free", b"x")
        taken = "import sys; from visionflows.storage import open_storage\n"
        taken += "out = open_storage(sys.argv[1])\n"
        taken += 'with out.lock(".lock"): out.write("run.json", b"whole")'
        subprocess.run([sys.executable, "-c", taken, str(out)], cwd=ROOT, check=True)
    assert [entry.name for entry in bucket.walk()] == [
        *("beside/free", "out/parts/1", "out/run.json")
    ]
    assert out.read("run.json") == b"whole"


@pytest.mark.parametrize("fails", [False, True])
def test_a_server_error_on_release_fails_no_run_and_hides_no_error(
    bucket, monkeypatch, caplog, fails
):
    monkeypatch.setenv("VISIONFLOWS_S3_ATTEMPTS", "1")
    raises = pytest.raises(ValueError, match="of the run") if fails else contextlib.nullcontext()
    with raises, bucket.lock(".lock"):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
        if fails:
            raise ValueError("of the run")
    (line,) = caplog.messages
    assert line.startswith(f"{bucket}: its lock could not be removed, and expires: ")


def leases(storage) -> list[str]:
    return [item["Key"] for item in listing.keys(storage.bucket, f"{storage.prefix}.lock/")]


@pytest.fixture(params=["with conditions", "without conditions"])
def shared(request, monkeypatch):
    """A bucket in which leases of this process count as those of other machines."""
    monkeypatch.setattr(lease, "is_dead", lambda owner: False)
    return request.getfixturevalue("strict" if request.param == "with conditions" else "bucket")


def test_a_renewal_that_arrives_after_a_take_over_brings_no_lease_back(shared, monkeypatch):
    first, second = lease.Lease(shared, ".lock"), lease.Lease(shared, ".lock")
    assert not first.acquire()
    put = objects.put

    def stalled(bucket, key, *rest, **condition):
        monkeypatch.setattr(objects, "put", put)
        with monkeypatch.context() as patch:
            patch.setattr(lease, "EXPIRY_SECONDS", -10)
            assert not second.acquire()
        return put(bucket, key, *rest, **condition)

    monkeypatch.setattr(lease, "DOUBT_SECONDS", 0)
    monkeypatch.setattr(objects, "put", stalled)
    first.renew()
    assert first.is_lost
    with pytest.raises(LockedError, match="another run took over the lock"):
        first.check()
    monkeypatch.setattr(lease, "DOUBT_SECONDS", 40)
    second.renew()
    second.check()
    assert leases(shared) == [second.key]


def test_a_holder_whose_clock_ran_on_writes_only_what_is_still_its_own(shared, monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 1000)
    with shared.lock(".lock"):
        (held,) = lease._held
        monkeypatch.setattr(lease, "DOUBT_SECONDS", 0)  # as after a night's sleep of the machine
        shared.write("parts/1", b"mine")  # none took the lock over
        assert leases(shared) == [held.key]
        call("delete_object", shared.bucket, Key=held.key)
        with pytest.raises(LockedError, match="another run took over the lock"):
            shared.write("parts/2", b"stale")
    assert not shared.exists("parts/2")


def test_a_gateways_404_or_a_server_that_is_away_ends_no_renewal(bucket, monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.05)
    put, failures = objects.put, [FileNotFoundError(), StorageError("away"), ReadFailed()]

    def failing(*arguments, **condition):
        if failures:
            raise failures.pop()
        return put(*arguments, **condition)

    with bucket.lock(".lock"):
        (held,) = lease._held
        before = held.renewed
        monkeypatch.setattr(objects, "put", failing)
        until = time.monotonic() + 5
        while held.renewed == before and time.monotonic() < until:
            time.sleep(0.05)
        assert not failures
        assert held.renewed != before
        held.check()


def test_of_two_runs_that_begin_at_once_one_goes_on(shared, monkeypatch):
    both, write = threading.Barrier(2), lease.Lease._write

    def written(self, tag=""):
        both.wait(10)  # both looked, and saw no other
        write(self, tag)

    monkeypatch.setattr(lease.Lease, "_write", written)
    monkeypatch.setattr(lease, "WITHDRAWAL_SECONDS", 1)
    two = [lease.Lease(shared, ".lock") for _ in range(2)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        reasons = [*pool.map(lease.Lease.acquire, two)]
    assert sorted(map(bool, reasons)) == [False, True]
    assert leases(shared) == [two[reasons.index("")].key]


def test_waiting_for_a_lock_writes_nothing(bucket, monkeypatch):
    bucket.write(".lock/0123", json.dumps(OTHER).encode())
    requests, real = [], lease.call
    monkeypatch.setattr(lease, "call", lambda *a, **k: requests.append(a[0]) or real(*a, **k))
    monkeypatch.setattr(objects, "put", lambda *a, **k: requests.append("put_object"))
    with pytest.raises(LockedError), bucket.lock(".lock", wait=1.2):
        pass
    assert set(requests) == {"list_objects_v2"}
    assert 2 <= len(requests) <= 4
