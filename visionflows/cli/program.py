"""The process of a command: signals, exit status, and errors as one line.

INT, TERM and HUP raise `Stopped`, so that a command releases what it holds. After STOP_TIMEOUT
seconds the process ends in any case: a library may be busy, a server silent.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from visionflows.escaping import printable

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_TIMEOUT = 7.0  # seconds for a stopped command to release what it holds
EXIT_TIMEOUT = 15.0  # seconds for the exit handlers of libraries: Prefect's wait for its server
UNEXPECTED = "unexpected: run `visionflows --debug …` and report the traceback"

_received = 0  # the first signal
_hint = ""  # printed when the command is stopped
_status: int | None = None  # of the command that has ended; only exit handlers are left


class Stopped(KeyboardInterrupt):
    """A signal has stopped the command; libraries treat it as Ctrl-C."""


def run(command: Callable[[], object]) -> NoReturn:
    """Run a command and end the process with its exit status."""
    global _status
    _open_streams()
    _handle_signals()
    atexit.register(_end_now)  # the first one registered is the last one called
    try:
        _status = status_of(command)
    except BaseException:
        if not _received:
            raise
    if _received:
        end(_received)
    timer = threading.Timer(EXIT_TIMEOUT, os._exit, (_status,))
    timer.daemon = True
    timer.start()
    sys.exit(_status)


def _end_now() -> None:
    """End after Python's exit handlers, without the destructors of native libraries: some hang."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    if _status is not None:
        os._exit(_status)


def _open_streams() -> None:
    """Open the streams that the caller has closed, so that no file of ours gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def status_of(command: Callable[[], object]) -> int:
    """The exit status of a command; an error is printed in one line."""
    try:
        command()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            return 0  # the reader of the output has gone; the work is done
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception as error:
        if _received:
            raise
        return _print_error(error)
    return 0


def set_stop_hint(hint: str) -> None:
    """What to print besides "stopped" when this command is stopped."""
    global _hint
    _hint = f"; {hint}"


def end(number: int) -> NoReturn:
    """Kill child processes, report the stop and end at once, without exit handlers."""
    multiprocessing = sys.modules.get("multiprocessing")
    for child in multiprocessing.active_children() if multiprocessing else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    local_storage = sys.modules.get("visionflows.storage.local")
    if local_storage:
        local_storage.remove_temporary_files()
    cursor = b"\r\x1b[K\x1b[?25h" if os.isatty(2) else b""  # a progress bar hides it
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, cursor + f"visionflows: stopped{printable(_hint)}\n".encode())
    os._exit(128 + number)


def _handle_signals() -> None:
    """Install the handlers. A signal that is ignored, as by nohup, stays ignored."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_timeout, args=(reader,), daemon=True).start()
    os.register_at_fork(after_in_child=_reset_signals_in_child)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    if _status is not None:
        end(number)
    if not _received:
        _received = number
        raise Stopped


def _end_after_timeout(reader: int) -> None:
    """Wait for a signal, then end in time, even if another handler took the signal."""
    while True:
        for number in os.read(reader, 64):
            if number in SIGNALS:
                time.sleep(STOP_TIMEOUT)
                end(_received or number)


def _reset_signals_in_child() -> None:
    """In a forked child: the parent handles a terminal's signals and ends its children."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _print_error(error: Exception) -> int:
    """Print an error in one line, with its traceback if --debug is set; its exit status."""
    from visionflows.orchestration.error_translation import translate
    from visionflows.orchestration.url_redaction import redact

    translated = translate(error)
    if os.environ.get("VISIONFLOWS_DEBUG"):
        import traceback

        traceback.print_exception(error)
    line = str(translated or f"{type(error).__name__}: {error} ({UNEXPECTED})")
    with contextlib.suppress(OSError):
        print(f"visionflows: {printable(redact(line))}", file=sys.stderr)
    return translated.exit_status if translated else 1
