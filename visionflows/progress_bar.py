"""A progress bar: HTML in a notebook, rich in a terminal, log lines elsewhere.

from visionflows.progress_bar import progress_bar
with progress_bar("pets.tgz", in_bytes=True) as report:
    report(100_000, 300_000)
"""

import contextlib
import html
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Called with what is done, and with the total where it is known.
Report = Callable[[float, float | None], None]

logger = logging.getLogger("visionflows.progress")


@contextlib.contextmanager
def progress_bar(name: str, *, in_bytes: bool = False) -> Iterator[Report]:
    """A function that reports progress to the person who watches."""
    if in_notebook():
        yield notebook_bar(name)
    elif sys.stderr.isatty():
        with _terminal_bar(name, in_bytes) as report:
            yield report
    else:
        yield _log_lines(name, "bytes" if in_bytes else "steps")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def notebook_bar(name: str) -> Report:
    """A function that reports progress in the output of a notebook's cell."""
    ipython: Any = importlib.import_module("IPython.display")
    cell: Any = None

    def report(done: float, total: float | None) -> None:
        nonlocal cell
        attributes = f' value="{done}" max="{total}"' if total else ""
        bar = ipython.HTML(f"{html.escape(name)} <progress{attributes}></progress>")
        if cell:
            cell.update(bar)
        else:
            cell = ipython.display(bar, display_id=True)

    return report


@contextlib.contextmanager
def _terminal_bar(name: str, in_bytes: bool) -> Iterator[Report]:
    from rich import progress
    from rich.console import Console

    numbers = (progress.DownloadColumn(), progress.TransferSpeedColumn())
    columns = numbers if in_bytes else (progress.TaskProgressColumn(),)
    console = Console(stderr=True)
    with progress.Progress(
        "{task.description}", progress.BarColumn(), *columns, console=console
    ) as bars:
        bar = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _log_lines(name: str, unit: str) -> Report:
    """Log a line each 10 %, or each 100 Mi where the total is unknown."""
    last = 0

    def report(done: float, total: float | None) -> None:
        nonlocal last
        step = int(done * 10 // total if total else done // (100 << 20))
        if step > last:
            logger.info(
                "%s: %s", name, f"{step}0 % of {total:,} {unit}" if total else f"{done:,} {unit}"
            )
        last = step

    return report
