"""A program that ends with all it started, however it is told to, and however it dies.

    with attended():
        ...                      # start programs and wait; a signal raises SystemExit in here

The process that people see only waits. The work is done by a child of it in a session of its own,
to which INT, TERM and HUP are passed on. If the one that waits is killed, the child finds the pipe
between them closed and stops in good order; if the child is killed, the one that waits ends what
was left behind.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from visionflows.serve.child_processes import adopt_orphans, end_all
from visionflows.serve.settings import UpError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def attended() -> Iterator[None]:
    """Run the block in a child that outlives no one; the process that called waits for its end.

    The exit status is the child's: 130, 143 or 129 after INT, TERM or HUP, of which those that
    come later are not heard. What is ignored from the start (nohup) stays so.
    """
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # none may be lost in between
    adopt_orphans()
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(reader)
        _wait(child, heard)
    os.close(writer)
    os.setsid()
    threading.Thread(target=_stop_when_closed, args=(reader,), daemon=True).start()
    with _stopped_by(heard):
        yield


@contextlib.contextmanager
def _stopped_by(heard: list[signal.Signals]) -> Iterator[None]:
    def stop(number: int, _: FrameType | None) -> None:
        for one in heard:  # asked twice, it still stops what it started
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in heard:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
    yield


def _stop_when_closed(reader: int) -> None:
    os.read(reader, 1)  # nothing is ever written: it returns when the other end has gone
    os.kill(os.getpid(), signal.SIGTERM)


def _wait(child: int, heard: list[signal.Signals]) -> None:
    """Raises SystemExit with the child's status, and UpError where it was killed."""

    def forward(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in heard:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status >= 0:
        raise SystemExit(status)
    end_all(patience=3)
    raise UpError(f"killed ({signal.Signals(-status).name}); what it had started was ended")
