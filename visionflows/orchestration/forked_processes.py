"""Loader and decoder processes, forked in a run: they end with it, and run none of its exit calls.

A forked child holds its parent's locks and output open, so the kernel kills it with the parent
(Linux; elsewhere torch's workers check for their parent every five seconds).

Prefect 3.8's services register exit calls with `threading`, which fail in a forked child; torch's
DataLoader takes that exit status for a crash.
"""

import ctypes
import os
import signal
import threading

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)  # looked up before any fork

_parent, _is_main_thread = 0, False


def _remember_parent() -> None:
    """Before a fork. To the kernel, the parent is the thread that forks."""
    global _parent, _is_main_thread
    _parent = os.getpid()
    _is_main_thread = threading.current_thread() is threading.main_thread()


def _prepare_child() -> None:
    """Drop the parent's exit calls; if its main thread has forked, die when the parent does."""
    vars(threading)["_threading_atexits"].clear()
    if _PRCTL is None or not _is_main_thread:
        return
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != _parent:  # it died before the call
        os._exit(1)


os.register_at_fork(before=_remember_parent, after_in_child=_prepare_child)
