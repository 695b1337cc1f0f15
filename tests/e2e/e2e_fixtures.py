"""Fixtures of the end-to-end tests: a server with a worker, a browser, PostgreSQL."""

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CLASSES, Trained, shape
from postgres import postgres_binaries, running_postgres
from serving import Served, served

from visionflows.serve.settings import DEPLOYMENTS

CHROMIUM = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
MANY = 1500
# Files of users in the worker's folder, with names of ours, of Prefect and of Python.
OWN = ("tasks/__init__.py", "flows/__init__.py", "prefect.py", "numpy.py", "email.py")


@pytest.fixture(scope="session")
def server(trained: Trained, tmp_path_factory) -> Iterator[Served]:
    """A shared server for tests that do not stop it; its worker runs next to `inbox` and `many`."""
    folder = tmp_path_factory.mktemp("up")
    fill(folder / "inbox", 6)
    fill(folder / "many", MANY)
    for name in OWN:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise RuntimeError('this is no module of visionflows')\n")
    mine = tmp_path_factory.mktemp("deployments") / "mine.yaml"  # the model is `shapes`
    text = DEPLOYMENTS.read_text(encoding="utf-8")
    mine.write_text(text.replace("model.pets.production", "model.shapes.production"))
    with (
        webhook() as (url, webhook_calls),
        served(
            folder, trained.store, "--deployments", str(mine), VISIONFLOWS_WEBHOOK=url
        ) as running,
    ):
        running.webhook_calls = webhook_calls
        yield running


@contextlib.contextmanager
def webhook() -> Iterator[tuple[str, list[dict]]]:
    """A URL that accepts JSON POSTs, and the list of received ones."""
    came: list[dict] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as hook:
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{hook.server_port}", came
        hook.shutdown()


def fill(folder: Path, count: int) -> Path:
    """Create many files to score, as links to a dozen images."""
    folder.mkdir()
    kinds = [(CLASSES[index % 3], index // 3) for index in range(12)]
    for index in range(count):
        file = folder / f"{index:05d}.png"
        if index < len(kinds):
            shape(*kinds[index]).save(file)
        else:
            os.link(folder / f"{index % len(kinds):05d}.png", file)
    return folder


@pytest.fixture
def page():
    """A page of headless Chromium: the system's, or else Playwright's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    system = shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as driver:
        if not system and not Path(driver.chromium.executable_path).exists():
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        browser = driver.chromium.launch(executable_path=system, args=CHROMIUM)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        playwright.expect.set_options(timeout=120_000)  # by default 5 s, too few on a busy machine
        yield page
        browser.close()


@pytest.fixture
def review(page, output):
    """The review page of the fixture `output`, in a browser that logs no message and no error."""
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(f"file://{output}/review.html")
    yield page
    assert messages == []


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database of a PostgreSQL that runs only for these tests."""
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="visionflows-pg-", dir="/tmp"))
    try:
        with running_postgres(binaries, folder) as url:
            yield url
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error}: {error.stderr or error.stdout}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
