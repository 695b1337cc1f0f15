"""Preflight checks: proxies, folders, the configured server."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from unprivileged import reachable_folder, unprivileged

from visionflows.errors import ServerError, StorageError, VisionflowsError
from visionflows.orchestration import preflight, server


@pytest.fixture
def answering() -> Iterator[str]:
    """A server on loopback that returns 401 without a password, and its version with one."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.path.startswith("/api/") and "Authorization" not in self.headers
            self.send_response(401 if asked else 200)
            kind = "application/json" if self.path.startswith("/api/") else "text/html"
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(b'"3.8.8"')

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("before", [{}, {"NO_PROXY": "lan"}, {"no_proxy": "lan, 127.0.0.1"}])
def test_loopback_bypasses_proxies(monkeypatch, answering, before):
    with socket.create_server(("127.0.0.1", 0)) as nothing:
        dead = f"http://127.0.0.1:{nothing.getsockname()[1]}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HTTP_PROXY": dead, "http_proxy": dead, **before}.items():
        monkeypatch.setenv(name, value)
    if "no_proxy" not in before:
        with pytest.raises(httpx.ConnectError):
            httpx.get(answering)
    preflight.bypass_proxies()
    assert httpx.get(answering).status_code == 200
    words = os.environ["NO_PROXY"].split(",")
    assert words == os.environ["no_proxy"].split(",")
    assert set(words) == {"127.0.0.1", "localhost", "::1", *(["lan"] if before else [])}
    with pytest.raises(httpx.ConnectError):  # other hosts are unchanged
        httpx.get("http://192.0.2.1")


def error_text(function: Callable[[], None]) -> str:
    """The message of the raised error, if any."""
    try:
        function()
    except VisionflowsError as error:
        return str(error)
    return ""


def test_unwritable_folders_are_named_with_their_setting(monkeypatch):
    with reachable_folder() as folder:
        closed = folder / "closed"
        closed.mkdir(mode=0o500)
        monkeypatch.setenv("HOME", str(closed))
        monkeypatch.delenv("PREFECT_HOME", raising=False)
        monkeypatch.delenv("TMPDIR", raising=False)
        line = unprivileged(lambda: error_text(preflight.check_folders))
        assert line == (
            f"Prefect's folder {closed}/.prefect: cannot be written (Permission denied); "
            "set HOME or PREFECT_HOME to a writable folder"
        )
        monkeypatch.setenv("PREFECT_HOME", str(closed))
        line = unprivileged(lambda: error_text(preflight.check_folders))
        assert line.startswith(f"PREFECT_HOME {closed}: cannot be written")
        monkeypatch.setenv("PREFECT_HOME", str(folder / "new" / "home"))
        assert unprivileged(lambda: error_text(preflight.check_folders)) == ""
        monkeypatch.setenv("TMPDIR", str(closed))
        line = unprivileged(lambda: error_text(preflight.check_folders))
        assert line.startswith(f"TMPDIR {closed}: cannot be written (Permission denied)")


def test_a_missing_temporary_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(StorageError, match=f"TMPDIR={tmp_path}/none: no such folder; make it"):
        preflight.check_folders()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without an account")
def test_a_user_without_home_and_account(monkeypatch):
    monkeypatch.delenv("HOME")

    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setuid(54321)
        os.write(writer, error_text(preflight.check_folders).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        assert "HOME is not set, and user 54321 has no account; set HOME to" in file.read()
    os.wait()


def test_without_a_configured_server_there_is_no_version():
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert server.read_version() == ""


def test_the_version_of_a_server_needs_its_password(answering):
    with temporary_settings({PREFECT_API_URL: f"{answering}/api"}):
        with pytest.raises(ServerError, match="PREFECT_API_AUTH_STRING=admin:<the password>"):
            server.read_version()
        with temporary_settings({PREFECT_API_AUTH_STRING: "admin:x"}):
            assert server.read_version() == "3.8.8"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/api", "http://me:secret@127.0.0.1:9/api", "nonsense"]
)
def test_an_unreachable_server_is_named_with_a_fix(url):
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(ServerError, match="no server answers there") as caught,
    ):
        server.read_version()
    assert "visionflows up" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_web_server_is_not_a_prefect_api(answering):
    with temporary_settings({PREFECT_API_URL: answering}), pytest.raises(ServerError) as caught:
        server.read_version()
    assert "is no Prefect API (HTTP 200)" in str(caught.value)


def test_preflight_does_not_import_prefect():
    code = "import sys, visionflows.orchestration.preflight as r; print('prefect' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    output = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert output.stdout == "False\n"
