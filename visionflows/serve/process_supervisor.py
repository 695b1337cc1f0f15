"""Supervise child processes and stop them all on exit, signal or crash.

    with supervised():
        ...                      # start programs and wait; a signal raises SystemExit here

The process that was started only waits. A child of it, in its own session, runs the block and gets
its INT, TERM and HUP. If the waiting process is killed, the child sees the pipe between them
close and stops; if the child is killed, the waiting process ends all its descendants.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from visionflows.serve.child_processes import adopt_orphans, end_descendants
from visionflows.serve.settings import UpError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def supervised() -> Iterator[None]:
    """Run the block in a child process; the calling process waits and exits with its status.

    The status is 130, 143 or 129 after INT, TERM or HUP; later signals are ignored. A signal that
    is ignored from the start, as by nohup, stays ignored.
    """
    signals = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # none is lost before the handlers are set
    adopt_orphans()
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(reader)
        _wait(child, signals)
    os.close(writer)
    os.setsid()
    threading.Thread(target=_stop_when_closed, args=(reader,), daemon=True).start()
    with _exit_on(signals):
        yield


@contextlib.contextmanager
def _exit_on(signals: list[signal.Signals]) -> Iterator[None]:
    def stop(number: int, _: FrameType | None) -> None:
        for one in signals:  # a second signal must not interrupt the stopping
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in signals:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    yield


def _stop_when_closed(reader: int) -> None:
    os.read(reader, 1)  # returns when the other end is closed; nothing is written
    os.kill(os.getpid(), signal.SIGTERM)


def _wait(child: int, signals: list[signal.Signals]) -> None:
    """Raises SystemExit with the child's status, and UpError if it was killed."""

    def forward(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in signals:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status >= 0:
        raise SystemExit(status)
    end_descendants(patience=3)
    raise UpError(f"killed ({signal.Signals(-status).name}); all its processes were ended")
