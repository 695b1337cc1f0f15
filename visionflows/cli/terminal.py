"""Tables and facts on a terminal and in a log; nothing is cut off in either.

Texts come from file names and models, so what is printed of them is `printable`.
"""

import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic_core
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from visionflows.errors import StorageError
from visionflows.escaping import printable

log = logging.getLogger("visionflows.terminal")
WIDE = 1000  # columns where the output is not a terminal


def print_parts(*parts: RenderableType) -> None:
    """Print tables and texts; in a file or pipe without colour, on lines of any length."""
    width = None if sys.stdout.isatty() else WIDE
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    lines = capture.get().splitlines()
    print_text("\n".join(line.rstrip() if width else line for line in lines))


def print_result(json: bool, content: Any, *parts: RenderableType) -> None:
    """Print the content as JSON, or else the parts that show it."""
    if json:
        print_json(content)
    else:
        print_parts(*parts)


def print_json(content: Any) -> None:
    """Print JSON; NaN and infinity become null."""
    print_text(pydantic_core.to_json(content, indent=2, inf_nan_mode="null").decode())


@dataclass
class Rows:
    """A table with a header; a list per row on a terminal that is too narrow."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[str] = ()  # the right-aligned columns

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The table or the lists, as rich asks for them."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in self.columns:
            justify = "right" if column in self.numbers else "left"
            table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for row in self.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        width = Measurement.get(console, options.update(max_width=WIDE), table).maximum
        if width <= options.max_width:
            yield table
        else:
            for first, *rest in self.rows:
                yield facts(first, zip(self.columns[1:], rest, strict=True))


def facts(title: str, rows: Iterable[tuple[str, str]]) -> RenderableType:
    """A heading, and below it a name and a value per line; empty values are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        if value:
            grid.add_row(Text(name, style="dim"), Text(printable(value)))
    return Group(heading(title), Padding.indent(grid, 2))


def parse_facts(text: str) -> RenderableType:
    """The same from a text: a line with the heading, and `name: value` lines."""
    title, *lines = text.splitlines()
    cells = [line.partition(": ") for line in lines if line]
    return facts(title, [(name, value) for name, _, value in cells] or [("", "none")])


def heading(title: str) -> Text:
    """A title after an empty line."""
    return Text(f"\n{printable(title)}", style="bold", overflow="fold")


def print_text(text: str) -> None:
    """Print a text; characters that the encoding lacks as escapes. Raises StorageError."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except OSError as error:
        # Else the rest of its buffer fails again when the program ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            raise  # its reader, such as `head`, has enough: typer ends the command without a word
        raise StorageError(f"stdout: cannot be written ({error.strerror})") from error


def print_lines(*lines: str) -> None:
    """Print lines that hold texts from outside. Raises StorageError."""
    print_text("\n".join(map(printable, lines)))


def print_summary(*lines: str) -> None:
    """Print what a command did; its result is complete, so a failure to print is only logged."""
    try:
        print_lines(*lines)
    except BrokenPipeError:
        pass
    except StorageError as error:
        log.warning("%s; the result is complete", error)
