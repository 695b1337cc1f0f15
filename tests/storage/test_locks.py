"""Locks and drafts of a folder: held alone, let go with the process, and nothing left behind."""

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


def test_a_dead_runs_lock_is_free_though_what_it_forked_lives_on(tmp_path):
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


def test_a_fork_does_not_let_its_parents_lock_go(tmp_path):
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


def test_of_many_that_take_a_lock_and_its_file_away_one_holds_it(tmp_path):
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
