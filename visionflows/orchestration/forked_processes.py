"""Loader and decode processes, forked inside a run: they end with it, and leave its exit to it.

    from visionflows.orchestration import forks  # noqa: F401

A forked child has its parent's lock and standard output open. So the kernel is told to end it with
the parent (Linux; elsewhere torch's workers look for their parent every five seconds).

Prefect 3.8's services leave exit calls with `threading`. A fork resets those services, so in the
child their calls fail an assertion, and torch's DataLoader takes the exit status for a crash.
"""

import ctypes
import os
import signal
import threading

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)  # looked up before there is a fork

_parent, _by_main = 0, False


def _remember_parent() -> None:
    """Before a fork: who forks. The kernel's word for a parent is the thread that forked."""
    global _parent, _by_main
    _parent, _by_main = os.getpid(), threading.current_thread() is threading.main_thread()


def end_with_parent() -> None:
    """In a child that the main thread has forked: die when the parent does."""
    if _PRCTL is None or not _by_main:
        return
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != _parent:  # it has died before we asked
        os._exit(1)


def forget_exit_calls() -> None:
    """Drop the exit calls that a forked child has from its parent; they are the parent's."""
    calls: list[object] = vars(threading)["_threading_atexits"]
    calls.clear()


os.register_at_fork(before=_remember_parent, after_in_child=end_with_parent)
os.register_at_fork(after_in_child=forget_exit_calls)
