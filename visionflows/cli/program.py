"""The program around a command: what a signal, an error or a closed pipe makes of it.

    visionflows score inbox --model pets --output scores/night        # Ctrl-C
    visionflows: stopped; the same command goes on where it was       # exit status 130

INT, TERM and HUP end a command in the order in which it holds things, and after DEADLINE seconds at
once: a library may be busy, a server silent. Further signals change nothing. What we have started
ends with us: see visionflows.orchestration.forked_processes and temporary.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEADLINE = 7.0  # seconds that a command has to let go of what it holds
LEAVE = 15.0  # seconds that a library has for its exit calls

_arrived: int = 0  # the signal that ends this program, once there is one
_more = ""  # what a person is told who has stopped it
_done = False  # whether the command has ended, and only the exit is left


class Stopped(KeyboardInterrupt):
    """A signal has arrived; libraries know it as Ctrl-C."""


def run(command: Callable[[], object]) -> NoReturn:
    """Run a command; ends the process with its exit status, after one line where it failed."""
    global _done
    listen()
    try:
        status = status_of(command)
    except BaseException as error:
        if not _arrived:
            raise
        del error
        end(_arrived)
    _done = True
    if _arrived:
        end(_arrived)
    threading.Thread(target=_leave, args=(status,), daemon=True).start()
    sys.exit(status)


def when_stopped(more: str) -> None:
    """What a person who stops this command is told besides that it has stopped."""
    global _more
    _more = f"; {more}"


def listen() -> None:
    """Stop at a signal from now on. One that is ignored, as by nohup, stays ignored."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    os.register_at_fork(after_in_child=_leave_to_parent)
    for number in NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def leave_signals() -> None:
    """Signals are the command's own business: `visionflows up` has children to stop.

    Those that we listen to are as Python has them; one that is ignored, as by nohup, stays ignored.
    """
    signal.set_wakeup_fd(-1)
    for number in NUMBERS:
        if signal.getsignal(number) is _stop:
            own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, own)


def end(number: int) -> NoReturn:
    """Say that a signal has stopped this, and be gone: no exit call of a library is waited for."""
    for child in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    locations = sys.modules.get("visionflows.storage.local")
    if locations:
        locations.drop_drafts()
    cursor = b"\r\x1b[K\x1b[?25h" if os.isatty(2) else b""  # a progress bar hides it
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, cursor + f"visionflows: stopped{_more}\n".encode())
    os._exit(128 + number)


def _stop(number: int, frame: FrameType | None) -> None:
    global _arrived
    if _done:
        end(number)
    if not _arrived:
        _arrived = number
        raise Stopped


def _watch(reader: int) -> None:
    """End the program in time, whatever it is at and whoever's handler took the signal."""
    while True:
        for number in os.read(reader, 64):
            if number in NUMBERS:
                time.sleep(DEADLINE)
                end(_arrived or number)


def _leave(status: int) -> None:
    """Be gone in time: at the exit Prefect tells its server the rest, which may be silent."""
    time.sleep(LEAVE)
    os._exit(status)


def _leave_to_parent() -> None:
    """In a forked child: signals from a terminal are for the parent, who ends its children."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _children() -> list[int]:
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return []
    return [child.pid for child in multiprocessing.active_children() if child.pid]


def status_of(command: Callable[[], object]) -> int:
    """The exit status of a command, its error told in one line."""
    try:
        command()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            return 0  # nobody reads on; what was to do is done
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception as error:
        if _arrived:
            raise
        return _told(error)
    return 0


def _told(error: Exception) -> int:
    """Say an error in one line; its exit status."""
    from visionflows.orchestration.error_translation import known
    from visionflows.orchestration.url_redaction import public

    debug = bool(os.environ.get("VISIONFLOWS_DEBUG"))
    ours = known(error)
    if debug:
        import traceback

        traceback.print_exception(error)
    line = str(ours) if ours else f"{type(error).__name__}: {error} (not foreseen: run it as "
    line += "" if ours else "`visionflows --debug …` and report what it shows)"
    with contextlib.suppress(OSError):
        print(f"visionflows: {public(line)}", file=sys.stderr)
    return ours.exit_status if ours else 1
