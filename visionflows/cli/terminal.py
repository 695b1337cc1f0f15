"""Tables and facts on a terminal, and in a log: nothing is cut off in either.

    from visionflows.cli.terminal import Rows, facts, tell
    tell(Rows(("version", "error rate"), rows, numbers=("error rate",)))

What stands in them is text of others: it is shown as it is, and gives a terminal no orders.
"""

import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDE = 1000  # columns of what is no terminal: a file takes lines of any length


def tell(*parts: RenderableType) -> None:
    """Print tables and texts; where no terminal is, without colour, on lines of any length."""
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else WIDE, markup=False, highlight=False, emoji=False)
    with console.capture() as told:
        for part in parts:
            console.print(part)
    lines = told.get().splitlines()
    _print("\n".join(lines if terminal else [line.rstrip() for line in lines]))


def tell_json(content: Any) -> None:
    """Print JSON for machines: what is no number (NaN) is null."""
    _print(json.dumps(_without_nan(content), indent=2, ensure_ascii=False))


class Rows:
    """A table with a header; on a terminal that is too narrow for it, a list a row."""

    def __init__(
        self, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
    ):
        """`numbers` names the columns that stand at the right."""
        self.columns, self.rows, self.numbers = columns, [*rows], numbers

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """The table, or the lists, as rich asks for them."""
        made = self._table()
        width = Measurement.get(console, options.update(max_width=WIDE), made).maximum
        if width <= options.max_width:
            yield made
        else:
            for first, *rest in self.rows:
                yield facts(first, zip(self.columns[1:], rest, strict=True))

    def _table(self) -> Table:
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in self.columns:
            side: Literal["left", "right"] = "right" if column in self.numbers else "left"
            made.add_column(column, justify=side, no_wrap=True)
        for row in self.rows:
            made.add_row(*(Text(clean(cell)) for cell in row))
        return made


def facts(title: str, rows: Iterable[tuple[str, str]]) -> RenderableType:
    """A heading, and below it a name and a value a line; those without a value are left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value:
            made.add_row(Text(name, style="dim"), Text(clean(value)))
    return Group(heading(title), Padding.indent(made, 2))


def heading(title: str) -> Text:
    """A title above what follows, after an empty line."""
    return Text(f"\n{clean(title)}", style="bold", overflow="fold")


def clean(text: str) -> str:
    """A text of others without what orders a terminal about; it is one line."""
    return "".join(char if char.isprintable() else "�" for char in text)


def _print(text: str) -> None:
    """Print a text, with ? for what the terminal's encoding has not."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    print(text)


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
