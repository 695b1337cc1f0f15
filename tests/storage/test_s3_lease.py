"""Leases in a bucket: of dead runs, of other machines, lost, and unreadable."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from visionflows.errors import LockedError
from visionflows.storage.s3 import lease
from visionflows.storage.s3.client import call

ROOT = Path(__file__).parents[2]


def test_a_lock_of_another_machine_blocks_until_it_is_no_longer_renewed(bucket, monkeypatch):
    other = {"machine": "another", "host": "there", "pid": 1, "started": "1"}
    bucket.write(".lock/0123", json.dumps(other).encode())
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
