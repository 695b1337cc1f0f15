"""The server for the moment: flows run on it, and it ends with the process that started it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_shapes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def env(tmp_path) -> dict[str, str]:
    """No server is named, HOME may not even be there, and temporary files are the test's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    (tmp_path / "tmp").mkdir()
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {**kept, "HOME": "/nowhere", "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": path}


def servers(folder: Path) -> list[int]:
    """The processes whose command line names this folder for temporary files."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "orchestration.temporary" in words and str(folder) in words:
            found.append(int(path.parent.name))
    return found


def test_a_flow_runs_on_it_and_it_is_gone_with_its_folder(trained, tmp_path, env):
    folder = write_shapes(tmp_path / "in", each=2)
    code = f"""
import httpx
from flows.score import score
from visionflows.orchestration.ephemeral_server import server_if_none
from prefect.settings import PREFECT_API_URL
with server_if_none():
    score({str(folder)!r}, "shapes", {str(tmp_path / "out")!r}, {str(trained.store)!r})
    runs = httpx.post(f"{{PREFECT_API_URL.value()}}/flow_runs/filter", json={{}}, trust_env=False)
    print([(run["name"], run["state"]["name"]) for run in runs.json()])
"""
    # A proxy that nobody answers at: what is on this machine is not asked of it.
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env | proxies, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"[('score {folder} with shapes', 'Completed')]"
    assert servers(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to count processes")
def test_it_does_not_outlive_a_parent_that_was_killed(tmp_path, env):
    code = """
import time
from visionflows.orchestration.ephemeral_server import server_if_none
with server_if_none():
    print("up", flush=True)
    time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout.readline() == "up\n"
    assert len(servers(tmp_path)) == 1
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == ""  # nobody else holds the other end
    deadline = time.monotonic() + 20
    while servers(tmp_path):
        assert time.monotonic() < deadline, "the server is still there"
        time.sleep(0.1)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_one_that_cannot_start_is_told_in_a_line(tmp_path, env):
    code = """
import visionflows.orchestration.ephemeral_server as temporary
with temporary.server_if_none():
    pass
"""
    broken = {"PREFECT_SERVER_DATABASE_TIMEOUT": "soon"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env | broken, capture_output=True, text=True, check=False
    )
    assert re.search(r"RunError: Prefect's server for this run did not start: .*", done.stderr)
