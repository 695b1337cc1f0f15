"""A stopped writer leaves no temporary files."""

import subprocess
import sys
from pathlib import Path

import pytest

from visionflows.storage.local import LocalStorage

# A thread writes endlessly, and the program is stopped.
STOPPED = """
import signal, sys, threading, time
from pathlib import Path
from visionflows.cli import program
from visionflows.storage.local import LocalStorage

def write():
    with LocalStorage(Path(sys.argv[1])).open_write("parts/one") as file:
        file.write(b"half")
        writing.set()
        time.sleep(600)

writing = threading.Event()
threading.Thread(target=write, daemon=True).start()
writing.wait()
assert list(Path(sys.argv[1]).glob("parts/.writing-*"))
program.end(signal.SIGTERM)
"""


def test_a_stop_right_after_creating_the_temporary_file_leaves_nothing(tmp_path, monkeypatch):
    real = Path.open

    def then_stopped(path: Path, *words):
        real(path, *words).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", then_stopped)
    with pytest.raises(KeyboardInterrupt):
        LocalStorage(tmp_path).write("one", b"whole")
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_program_removes_the_files_its_threads_are_writing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, tmp_path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (143, "visionflows: stopped\n")
    assert list((tmp_path / "parts").iterdir()) == []
