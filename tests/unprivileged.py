"""Run a part of a test without root's permission to read and write everything.

with reachable_folder() as folder:
    (folder / "closed.jpg").chmod(0)
    assert "Permission denied" in unprivileged(lambda: reason_of(folder / "closed.jpg"))
"""

import contextlib
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

NOBODY = 65534


def unprivileged(function: Callable[[], str], user: int = NOBODY) -> str:
    """The text that `function` returns in an unprivileged child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            os.write(writer, function().encode())
            status = 0
        except BaseException:  # noqa: BLE001 (printed, and in the exit status)
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, "the child failed; its traceback is above"
    return text


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A new folder that any user can enter and write, unlike pytest's tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="visionflows-test-"))
    try:
        folder.chmod(0o777)
        yield folder
    finally:
        for parent, folders, _ in os.walk(
            folder
        ):  # folders without permission must be opened to be removed
            for name in folders:
                os.chmod(os.path.join(parent, name), 0o700)
        shutil.rmtree(folder)
