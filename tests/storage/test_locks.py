"""Locks and temporary files of a folder: exclusive, released with the process, removed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from visionflows.errors import LockedError
from visionflows.storage.local import LocalStorage

ROOT = Path(__file__).parents[2]
FORKING = """
import os, sys, time
from pathlib import Path
from visionflows.storage.local import LocalStorage
with LocalStorage(Path(sys.argv[1])).lock(".lock"):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_dead_run_is_free_while_its_fork_lives(tmp_path):
    command = [sys.executable, "-c", FORKING, str(tmp_path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    here = LocalStorage(tmp_path)
    with pytest.raises(LockedError), here.lock(".lock"):
        pass
    holder.kill()
    holder.wait()
    try:
        with here.lock(".lock"):
            os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_fork_does_not_release_its_parents_lock(tmp_path):
    here = LocalStorage(tmp_path / "here")
    with here.lock(".lock"):
        child = os.fork()
        if not child:
            try:
                with here.lock(".other"):
                    pass
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(LockedError), here.lock(".lock"):
            pass
        assert (tmp_path / "here/.lock").exists()


def test_a_lock_leaves_no_file(tmp_path):
    here = LocalStorage(tmp_path / "a/b")
    with here.lock(".lock"):
        assert (tmp_path / "a/b/.lock").exists()
    assert os.listdir(tmp_path / "a/b") == []
    with here.lock(".lock"):
        here.write("kept", b"x")
    assert os.listdir(tmp_path / "a/b") == ["kept"]


def test_only_one_process_holds_a_lock_whose_file_is_removed(tmp_path):
    inside, most, here = [], [], LocalStorage(tmp_path / "here")

    def work():
        for _ in range(20):
            with here.lock(".lock", wait=60):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert os.listdir(tmp_path / "here") == []


def test_temporary_files_of_killed_writers_are_deleted(tmp_path):
    here = LocalStorage(tmp_path)
    for name in (".writing-1", "parts/.writing-2", "parts/x", "other/.writing-3"):
        here.write(name, b"half")
    here.clear_temporary(("", "parts", "nowhere"), str)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        ".writing-3",
        "x",
    ]
