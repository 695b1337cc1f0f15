"""`visionflows up` refuses invalid settings before anything starts, and stops its child processes.

Tests of a running server are in tests/e2e.
"""

import contextlib
import os
import socket
import sqlite3
import stat
import sys
import time
from pathlib import Path

import pytest

from visionflows.errors import SettingsError, StorageError
from visionflows.serve.child_processes import ChildProcesses
from visionflows.serve.environment import server_environment, worker_environment
from visionflows.serve.up import UpError, UpSettings, _describe_start, lock_state, up
from visionflows.storage.local import LocalStorage


def refused(state: Path, **settings) -> str:
    """The error message of `up`; it must not have started a process or created a database."""
    with pytest.raises((SettingsError, UpError)) as caught:
        up(UpSettings(state=state, **settings))
    assert not (state / "prefect.db").exists()
    assert not (state / "logs").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_public_addresses_need_a_password(tmp_path, monkeypatch, host):
    monkeypatch.delenv("VISIONFLOWS_PASSWORD", raising=False)
    assert "set VISIONFLOWS_PASSWORD" in refused(tmp_path, host=host, port=0)


def test_a_password_file_that_is_missing_is_named(tmp_path):
    line = refused(tmp_path, password_file=tmp_path / "none", port=0)
    assert f"--password-file {tmp_path}/none: cannot be read" in line


def test_a_password_file_that_is_empty_is_no_password(tmp_path):
    (tmp_path / "empty").write_text("\n")
    settings = {"host": "0.0.0.0", "password_file": tmp_path / "empty", "port": 0}
    assert "set VISIONFLOWS_PASSWORD" in refused(tmp_path / "state", **settings)


def test_another_kind_of_database_is_refused(tmp_path):
    assert "postgresql+asyncpg://" in refused(tmp_path, database="mysql://here/x", port=0)


@pytest.mark.parametrize("given", ["--database", "PREFECT_SERVER_DATABASE_CONNECTION_URL"])
def test_only_the_server_gets_its_database_settings(tmp_path, monkeypatch, given):
    url = "postgresql+asyncpg://prefect:secret-4711@host/name"
    settings = UpSettings(state=tmp_path, database=url if given == "--database" else "")
    name = "VISIONFLOWS_DATABASE" if given == "--database" else given
    monkeypatch.setenv(name, url)
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_PASSWORD", "secret-4711")
    of_all = worker_environment(settings, tmp_path, 4200, "")
    assert not [name for name, value in of_all.items() if "secret-4711" in value]
    server_env = server_environment(of_all, settings)
    assert server_env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == url
    assert server_env["PREFECT_SERVER_DATABASE_PASSWORD"] == "secret-4711"
    assert server_env.items() >= of_all.items()


def test_missing_deployments_are_named(tmp_path):
    line = refused(tmp_path, deployments=tmp_path / "mine.yaml", port=0)
    assert line == f"--deployments {tmp_path}/mine.yaml: no such file"


def test_unwritable_folders_are_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=f"--state {tmp_path}/file/state: cannot be written"):
        up(UpSettings(state=tmp_path / "file" / "state", port=0))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=f"TMPDIR={tmp_path}/none: no such folder"):
        up(UpSettings(state=tmp_path / "state", port=0))


def test_an_existing_state_folder_becomes_private(tmp_path):
    state, shared = tmp_path / "state", tmp_path / "shared"
    for folder in (state, shared):
        (folder / "logs").mkdir(parents=True)
        (folder / "prefect.db").touch(mode=0o644)
        folder.chmod(0o755)
    (shared / "photos").mkdir()
    for folder, mode in ((state, 0o700), (shared, 0o755)):
        with lock_state(folder):
            assert stat.S_IMODE(folder.stat().st_mode) == mode
            assert stat.S_IMODE((folder / "prefect.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "url", ["photos", "https://", "ftp://photos", "https://host/prefect/", "https://host/?a=b"]
)
def test_an_invalid_url_is_refused(tmp_path, url):
    line = refused(tmp_path, url=url, port=0)
    assert line.startswith(f"--url {url}: ")
    assert line.endswith("use the form https://photos.example.com")


@pytest.mark.parametrize("password", ["pässwort", "a\tb", "密码"])
def test_a_password_that_clients_send_differently_is_refused(tmp_path, monkeypatch, password):
    monkeypatch.setenv("VISIONFLOWS_PASSWORD", password)
    line = refused(tmp_path / "state", port=0)
    assert line.startswith("VISIONFLOWS_PASSWORD: has characters that not every client sends alike")
    (tmp_path / "password").write_text(password, encoding="utf-8")
    line = refused(tmp_path / "state", password_file=tmp_path / "password", port=0)
    assert line.startswith("--password-file: has characters")


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused(tmp_path, port=port)
    assert line.startswith(f"127.0.0.1:{port}: another program listens there already; stop that")


@pytest.mark.parametrize("lock", ["up.lock", "server.lock"])
def test_a_state_folder_in_use_is_named(tmp_path, lock):
    """In use by another `up`, or by a server that a killed one left."""
    with LocalStorage(tmp_path).lock(lock):
        line = refused(tmp_path, port=0)
    assert line.startswith(f"{tmp_path}: visionflows is up with this state already; stop it")


def test_children_are_stopped_with_their_descendants(tmp_path):
    """A worker gives every run a session; one that ignores SIGTERM is killed after a while."""
    run = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)"
    code = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {run!r}], start_new_session=True)
time.sleep(99)"""
    with ChildProcesses(tmp_path) as children:
        children.start("worker", [sys.executable, "-c", code], dict(os.environ))
        worker = children.running["worker"]
        wait_until(lambda: len(worker.children(recursive=True)) == 1)
        time.sleep(0.5)  # for the run to ignore the signal
        family = {one.pid for one in (worker, *worker.children(recursive=True))}
        assert children.exited() == []
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


def test_a_child_that_exits_is_reported_and_its_log_is_kept(tmp_path):
    with ChildProcesses(tmp_path) as children:
        for word in ("first", "second"):
            children.start("server", [sys.executable, "-c", f"print({word!r})"], dict(os.environ))
            wait_until(children.exited)
        assert children.exited() == ["server"]
        assert children.log("server").read_text() == "second\n"
        assert (tmp_path / "server.log.1").read_text() == "first\n"


def start_server(folder: Path, code: str) -> str:
    """The error that is reported for a server that ends like this program."""
    with ChildProcesses(folder) as children:
        children.start("server", [sys.executable, "-c", code], dict(os.environ))
        wait_until(children.exited)
        return _describe_start(children)


@pytest.mark.parametrize("content", [b"no database" * 1000, None])
def test_a_damaged_database_is_named(tmp_path, content):
    """Torn, so that it has no header, or cut in the middle: the words are those of SQLite."""
    file = tmp_path / "prefect.db"
    if content is None:
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("create table runs as select randomblob(99999)")
            database.commit()
        content = file.read_bytes()[:20000]
    file.write_bytes(content)
    query = "execute('select * from runs').fetchall()"
    code = f"import sqlite3; sqlite3.connect({str(file)!r}).{query}"
    reported = start_server(tmp_path / "logs", code)
    assert reported.startswith("the server did not start: its database is damaged; restore a copy")


def test_a_database_of_a_later_prefect_is_named(tmp_path):
    code = """import alembic.util
raise alembic.util.CommandError("Can't locate revision identified by 'zzz'")"""
    reported = start_server(tmp_path, code)
    assert "its database was written by a later Prefect; install that version" in reported


def test_a_server_that_is_killed_or_fails_says_why(tmp_path):
    reported = start_server(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert "the server did not start: killed (SIGKILL; was memory short?) (log: " in reported
    footer = "(Background on this error at: https://sqlalche.me/e/20/4xp6)"
    reported = start_server(tmp_path, f"print('no route to host'); print({footer!r}); exit(1)")
    assert reported.startswith("the server did not start: no route to host (log: ")


def wait_until(found, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)
