"""The process of images.isolation: python -m visionflows.images.decoder_process.

It reads jobs from its standard input and writes answers to its standard output. For every file, CPU
time, memory and time on the clock are limited; the kernel ends a process that goes beyond.
"""

import contextlib
import logging.handlers
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from visionflows.images.color_profiles import attached_profile
from visionflows.images.image_status import BadImage
from visionflows.images.isolation import Decoded, Job
from visionflows.images.memory_limits import MemoryLimits
from visionflows.images.open import decode_here
from visionflows.images.time_budget import seconds

OPENING = 256 << 20  # bytes beside four times the file, until its size is known
DECODING = 1 << 30  # bytes beside twice the estimate: above all, stacks of threads
PATIENCE = 20  # seconds on the clock for each of CPU time
Ask = Callable[[object], Any]


class _Limits(MemoryLimits):
    """The limits of one job. The process that asked for the image reserves its memory."""

    def __init__(self, job: Job, ask: Ask):
        super().__init__(job.max_pixels)
        self.decoded, self._job, self._ask = job.max_bytes, job, ask
        limit_cpu(seconds(len(job.data)))
        limit_memory(OPENING + 4 * len(job.data))

    @contextlib.contextmanager
    def reserve_image(self, image: Image.Image) -> Iterator[None]:
        """Reserve memory, and let the kernel allow that and the time of the pixels."""
        needed = self.needed(image)
        self._ask(needed)
        limit_cpu(seconds(len(self._job.data), image.width * image.height))
        limit_memory(DECODING + 2 * needed)
        yield


def limit_cpu(allowed: float) -> None:
    """Let the kernel end this process after so many more seconds of CPU time."""
    signal.setitimer(signal.ITIMER_PROF, allowed)
    signal.alarm(int(PATIENCE * allowed) + 1)  # threads that wait for one another take none


def limit_memory(more: int) -> None:
    """Let allocations of more bytes than these fail. Without /proc, nothing is limited."""
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[5])
        _set_data_limit(pages * resource.getpagesize() + more)


def _set_data_limit(size: int | None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if size is None or size > hard != resource.RLIM_INFINITY:
        size = hard
    resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


def main() -> None:
    """Answer jobs until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the end of the parent ends the input
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGPROF, signal.SIGALRM):  # the parent may ignore or block them
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    log = logging.handlers.BufferingHandler(sys.maxsize)  # each line is logged once
    logging.getLogger("visionflows.images").addHandler(log)
    logging.getLogger("visionflows.images").setLevel(logging.INFO)

    def ask(answer: object) -> Any:
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        _set_data_limit(None)
        answers.flush()
        return pickle.load(sys.stdin.buffer)

    with contextlib.suppress(EOFError):
        job = pickle.load(sys.stdin.buffer)
        while True:
            job = ask(_answer(job, ask, log))


def _answer(job: Job, ask: Ask, log: logging.handlers.BufferingHandler) -> Decoded | BadImage:
    try:
        with decode_here(job.data, _Limits(job, ask), job.decode_options) as decoded:
            image = decoded.image
            profile = attached_profile(image)
            photo = decoded.photo()
            lines = [record.getMessage() for record in log.buffer]
            return Decoded(image.size, image.tobytes(), profile, decoded.size, photo, lines)
    except BadImage as bad:
        return bad
    except MemoryError:
        return BadImage("too_large", "not enough memory to decode it")


if __name__ == "__main__":
    main()
