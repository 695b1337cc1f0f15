"""Decoding in a process that the kernel limits, for formats whose decoders cannot be interrupted.

A file that takes too much CPU time or memory, or crashes its decoder, costs a row and a process. A
process that is done waits for the next file of any thread.
"""

import atexit
import contextlib
import functools
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from PIL import Image

from visionflows.images import time_budget
from visionflows.images.color_profiles import attach_profile
from visionflows.images.decode_options import DecodeOptions
from visionflows.images.exif import Photo
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MemoryLimits

log = logging.getLogger("visionflows.images")

PROGRAM = ("-P", "-m", "visionflows.images.decoder_process")  # -P: not from the working folder
_idle: list[subprocess.Popen[bytes]] = []
os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


class Job(NamedTuple):
    """What a process is to decode, and how."""

    data: bytes
    decode_options: DecodeOptions
    max_pixels: int
    max_bytes: int  # that decoding may take


class DecodedImage(NamedTuple):
    """An image of open_with_profile, its upright size in the file, and a reader of its tags."""

    image: Image.Image
    size: tuple[int, int]
    photo: Callable[[], Photo]


class Decoded(NamedTuple):
    """An RGB image as bytes, what converts its colours, its size in the file, its tags, log."""

    image_size: tuple[int, int]
    pixels: bytes
    profile: bytes | None
    size: tuple[int, int]
    photo: Photo
    log: list[str]


@contextlib.contextmanager
def decode_isolated(
    data: bytes, memory: MemoryLimits, decode_options: DecodeOptions
) -> Iterator[DecodedImage]:
    """The decoded image; its memory is reserved for the block. Raises BadImage.

    Before it decodes, the process asks for so many bytes of memory, and waits for an answer.
    """
    process = _take_process()
    with contextlib.ExitStack() as reserved:
        try:
            job = Job(data, decode_options, memory.max_pixels, memory.decoded)
            answer = _ask(process, job)
            if isinstance(answer, int):
                reserved.enter_context(memory.images.reserve(answer))
                answer = _ask(process, None)
        except BaseException:
            _end(process)
            raise
        _idle.append(process)
        if isinstance(answer, BadImage):
            raise answer
        for line in answer.log:
            _log_once(line)
        image = Image.frombytes("RGB", answer.image_size, answer.pixels)
        attach_profile(image, answer.profile)
        yield DecodedImage(image, answer.size, lambda: answer.photo)


@functools.cache
def _log_once(line: str) -> None:
    log.info("%s", line)


def _take_process() -> "subprocess.Popen[bytes]":
    with contextlib.suppress(IndexError):
        while True:
            process = _idle.pop()
            if process.poll() is None:
                return process
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, *PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        pipesize=1 << 20,
    )


def _ask(process: "subprocess.Popen[bytes]", question: object) -> Any:
    """The answer of a process. Raises BadImage if it ends instead."""
    assert process.stdin
    assert process.stdout
    try:
        pickle.dump(question, process.stdin, pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
        return pickle.load(process.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
        raise _death(-process.wait()) from error


def _death(number: int) -> BadImage:
    """The error of a file whose process was ended by a signal."""
    if number in (signal.SIGPROF, signal.SIGALRM):
        return BadImage("unreadable", time_budget.TOOK_TOO_LONG)
    if number == signal.SIGKILL:  # by the kernel, where it has no memory
        return BadImage("too_large", "not enough memory to decode it")
    names = {each.value: each.name for each in signal.Signals}
    return BadImage("unreadable", f"its decoder crashed ({names.get(number, f'exit {-number}')})")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    with process:  # closes the pipes, and waits
        pass


@atexit.register
def end_idle() -> None:
    """End the processes that wait for files."""
    while _idle:
        _end(_idle.pop())
