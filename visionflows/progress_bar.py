"""A progress bar: HTML in a notebook, rich in a terminal, log lines elsewhere."""

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
def progress_bar(name: str) -> Iterator[Report]:
    """A function that reports the progress of a download, in bytes."""
    if in_notebook() or not sys.stderr.isatty():
        yield notebook_bar(name) if in_notebook() else _log_lines(name)
        return
    from rich import progress
    from rich.console import Console

    numbers = (progress.DownloadColumn(), progress.TransferSpeedColumn())
    columns = ("{task.description}", progress.BarColumn(), *numbers)
    with progress.Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def notebook_bar(name: str) -> Report:
    """A function that reports progress in the output of a notebook's cell."""
    display: Any = importlib.import_module("IPython.display")
    cell: Any = None

    def report(done: float, total: float | None) -> None:
        nonlocal cell
        attributes = f' value="{done}" max="{total}"' if total else ""
        bar = display.HTML(f"{html.escape(name)} <progress{attributes}></progress>")
        if cell:
            cell.update(bar)
        else:
            cell = display.display(bar, display_id=True)

    return report


def _log_lines(name: str) -> Report:
    """Log a line each 10 %, or each 100 Mi where the total is unknown."""
    last = 0

    def report(done: float, total: float | None) -> None:
        nonlocal last
        step = int(done * 10 // total if total else done // (100 << 20))
        if step > last:
            amount = f"{step}0 % of {total:,}" if total else f"{done:,}"
            logger.info("%s: %s bytes", name, amount)
        last = step

    return report
