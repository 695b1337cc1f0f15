"""How far a download is, as a person sees it.

from visionflows.datasets.download_progress import shown
with shown("pets.tgz") as tell:
    tell(100_000, 300_000)
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where that is known

logger = logging.getLogger("visionflows.download")


@contextlib.contextmanager
def shown(name: str) -> Iterator[Progress]:
    """A progress that a person sees: a bar in a terminal, lines in a log."""
    if not sys.stderr.isatty():
        yield _lines(name)
        return
    import rich.console
    import rich.progress as rp

    columns = (rp.BarColumn(), rp.DownloadColumn(), rp.TransferSpeedColumn())
    console = rich.console.Console(stderr=True)
    with rp.Progress("{task.description}", *columns, console=console) as bars:
        bar = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _lines(name: str) -> Progress:
    told = 0

    def tell(done: int, total: int | None) -> None:
        nonlocal told
        step = done * 10 // total if total else done // (100 << 20)
        if step > told:
            share = f"{step}0 % of {total:,} bytes" if total else f"{done:,} bytes"
            logger.info("%s: %s", name, share)
        told = step

    return tell
