"""Downloads over connections that break, from servers that refuse or change the file."""

import contextlib
import logging
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from file_server import serving

from visionflows.datasets import download as downloading
from visionflows.datasets.download import RemoteVersion, download, public_url
from visionflows.errors import FetchError, SettingsError, StorageError
from visionflows.storage.local import LocalStorage

CONTENT = random.Random(7).randbytes(300_000)
OTHER = random.Random(8).randbytes(300_000)
DOWNLOAD = "import sys; from visionflows.datasets.download import download; download(*sys.argv[1:])"


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    """A few attempts without a long pause."""
    monkeypatch.setattr(downloading, "ATTEMPTS", 3)
    monkeypatch.setattr(downloading, "FIRST_DELAY", 0.01)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "pets.tgz"


def test_a_download_is_complete_and_leaves_no_temporary_file(target):
    with serving(CONTENT) as server:
        assert download(server.url(), target) == RemoteVersion('"v1"', len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["pets.tgz"]


def test_an_empty_file_is_downloaded(target):
    with serving(b"") as server:
        download(server.url(), target)
    assert target.read_bytes() == b""


def test_a_download_resumes_after_two_broken_connections(target):
    with serving(CONTENT, cuts=[100_001, 200_002]) as server:
        download(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100001-", "bytes=200002-"]
    assert server.sent == len(CONTENT)


def test_retries_start_again_whenever_bytes_arrive(target):
    with serving(CONTENT, cuts=list(range(50_000, 300_000, 50_000))) as server:
        download(server.url(), target)
    assert len(server.ranges) == 6 > downloading.ATTEMPTS
    assert server.sent == len(CONTENT)


def test_a_run_resumes_the_download_of_a_killed_run(target):
    dead = threading.Event()
    part = target.with_name("pets.tgz.part")
    with serving(CONTENT) as server:
        server.before_piece = lambda offset: offset < 150_000 or dead.wait(60)
        child = subprocess.Popen([sys.executable, "-c", DOWNLOAD, server.url(), target])
        while not part.exists() or part.stat().st_size < 100_000:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        dead.set()
        had = part.stat().st_size
        assert not target.exists()
        download(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={had}-"]


def test_a_download_fails_after_its_retries_and_resumes_in_the_next_run(target):
    with serving(CONTENT, cuts=[100_000, *[0] * 10]) as server:
        with pytest.raises(FetchError, match=r"3 times in a row; .* at 100,000 bytes$"):
            download(server.url(), target)
        assert not target.exists()
        server.cuts.clear()
        download(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_changed_file_is_downloaded_from_the_start(target):
    with serving(CONTENT, cuts=[100_000, *[100_000] * 2]) as server:
        with pytest.raises(FetchError):
            download(server.url(), target)
        server.content, server.tag = OTHER, '"v2"'
        server.cuts.clear()
        download(server.url(), target)
    assert target.read_bytes() == OTHER
    assert server.ranges[-1] == "bytes=100000-"


def test_a_range_of_another_version_is_refused(target):
    wrong = (206, {"Content-Range": "bytes 100000-299999/300000", "ETag": '"v2"'})
    with serving(CONTENT, cuts=[100_000]) as server:
        server.before_piece = lambda offset: server.answers.append(wrong) if offset == 0 else None
        download(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", None]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"knows_ranges": False}, id="ignores ranges"),
        pytest.param({"tag": ""}, id="names no version"),
        pytest.param({"tag": 'W/"v1"'}, id="names a weak version"),
    ],
)
def test_a_server_without_ranges_sends_the_file_from_the_start(target, how):
    with serving(CONTENT, cuts=[100_000], **how) as server:
        download(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert server.sent == 100_000 + len(CONTENT)


def test_last_modified_is_used_without_an_etag(target):
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    with serving(CONTENT, tag="", modified=date, cuts=[100_000]) as server:
        download(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_complete_part_of_a_killed_run_is_not_downloaded_again(target):
    with serving(CONTENT, cuts=[299_999] * 3) as server:
        with pytest.raises(FetchError):
            download(server.url(), target)
        with target.with_name("pets.tgz.part").open("ab") as part:
            part.write(CONTENT[-1:])
        asked = len(server.ranges)
        download(server.url(), target)
    assert target.read_bytes() == CONTENT
    assert len(server.ranges) == asked


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418])
def test_a_refusal_is_not_retried(target, status):
    refusal = pytest.raises(FetchError, match=rf"pets.tgz: .*HTTP {status}\); ")
    with serving(CONTENT, answers=[(status, {})] * 9) as server, refusal as error:
        download(server.url(), target)
    assert "\n" not in str(error.value)
    assert len(server.ranges) == 1
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_error_is_retried(target, status):
    with serving(CONTENT, answers=[(status, {})] * 2) as server:
        download(server.url(), target)
    assert target.read_bytes() == CONTENT


def test_a_lasting_error_is_raised_after_the_retries(target):
    refusal = pytest.raises(FetchError, match="HTTP 503, 3 times in a row")
    with serving(CONTENT, answers=[(503, {})] * 9) as server, refusal:
        download(server.url(), target)
    assert len(server.ranges) == 3


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(lambda: "1", id="seconds"),
        pytest.param(lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2)), id="date"),
    ],
)
def test_retry_after_is_respected(target, asked):
    with serving(CONTENT, answers=[(429, {"Retry-After": asked()})]) as server:
        start = time.monotonic()
        download(server.url(), target)
    assert time.monotonic() - start > 0.9


def test_a_missing_server_is_an_error_of_one_line(target):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(FetchError, match=r"the connection failed \(ConnectError") as error:
        download(f"http://127.0.0.1:{port}/x.tgz", target)
    assert "\n" not in str(error.value)


def test_a_silent_server_times_out(target, monkeypatch):
    monkeypatch.setattr(downloading, "READ_TIMEOUT", 0.2)
    with serving(CONTENT) as server:
        server.before_piece = lambda offset: offset < 150_000 or time.sleep(0.4)
        with pytest.raises(FetchError, match="ReadTimeout"):
            download(server.url(), target)


def test_a_redirect_is_followed(target):
    with serving(CONTENT, answers=[(302, {"Location": "/elsewhere.tgz"})]) as server:
        download(server.url(), target)
    assert target.read_bytes() == CONTENT


def test_an_endless_redirect_is_not_followed(target):
    again = [(302, {"Location": "/again"})] * 50
    with serving(CONTENT, answers=again) as server, pytest.raises(FetchError, match="redirect"):
        download(server.url(), target)


@pytest.mark.parametrize("url", ["http://", "pets.tgz", "ftp://host/x.tgz", "http://[::1/x"])
def test_an_invalid_url_is_refused_before_any_work(target, url):
    with pytest.raises(SettingsError, match="check the address"):
        download(url, target.parent / "new" / "x")
    assert not (target.parent / "new").exists()


def test_secrets_in_a_url_are_not_in_the_error(target):
    assert public_url("https://me:pass@host:8/a/b@c.tgz?sig=1#x") == "https://host:8/a/b@c.tgz?…"
    with serving(CONTENT, answers=[(404, {})]) as server, pytest.raises(FetchError) as error:
        download(server.url("x.tgz?token=abc").replace("//", "//me:secret@"), target)
    assert "secret" not in str(error.value)
    assert "abc" not in str(error.value)


def test_a_download_larger_than_the_disk_does_not_start(target, monkeypatch):
    monkeypatch.setattr(downloading, "DISK_FACTOR", 10**12)
    refusal = pytest.raises(StorageError, match=r"bytes free, .* takes .*; make room")
    with serving(CONTENT) as server, refusal:
        download(server.url(), target)
    assert not target.with_name("pets.tgz.part").exists()


@pytest.mark.parametrize("tag, kept", [('"v1"', True), ("", False)])
def test_a_download_of_unknown_size_takes_half_of_the_free_disk(target, monkeypatch, tag, kept):
    """As much is needed to unpack it. What cannot be resumed is removed."""
    large = random.Random(9).randbytes(3 << 20)
    monkeypatch.setattr(LocalStorage, "free_bytes", lambda storage: 2 << 20)
    refusal = pytest.raises(StorageError, match=r"takes more than half of that.*; make room")
    with serving(large, tells_length=False, tag=tag) as server, refusal:
        download(server.url(), target)
    part = target.with_name("pets.tgz.part")
    assert part.exists() == kept
    assert not kept or large.startswith(part.read_bytes())
    assert not kept or 500_000 < part.stat().st_size <= 1 << 20
    assert not target.exists()


def test_progress_is_reported_to_the_bar(target, monkeypatch):
    steps = []
    bar = contextlib.nullcontext(lambda *step: steps.append(step))
    monkeypatch.setattr(downloading, "progress_bar", lambda name: bar)
    with serving(CONTENT, cuts=[100_000]) as server:
        download(server.url(), target)
    assert steps[0] == (0, 300_000)
    assert (100_000, 300_000) in steps
    assert steps[-1] == (300_000, 300_000)
    assert steps == sorted(steps)


def test_progress_is_a_log_line_each_tenth(target, caplog):
    caplog.set_level(logging.INFO, "visionflows")
    with serving(CONTENT) as server:
        download(server.url(), target)
    lines = [record.getMessage() for record in caplog.records if "pets.tgz: " in record.message]
    assert 2 <= len(lines) <= 10
    assert lines[-1].endswith("pets.tgz: 100 % of 300,000 bytes")


def test_progress_is_a_bar_in_a_terminal(target):
    ours, theirs = pty.openpty()
    with serving(CONTENT) as server:
        command = [sys.executable, "-c", DOWNLOAD, server.url(), target]
        subprocess.run(command, stderr=theirs, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while piece := _read(terminal):
            shown += piece
    assert "━".encode() in shown
    assert b"300.0" in shown


def _read(terminal) -> bytes:
    try:
        return terminal.read(65536)
    except OSError:  # what Linux says at the end of a terminal
        return b""
