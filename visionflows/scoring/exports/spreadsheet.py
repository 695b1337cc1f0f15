"""spreadsheet.csv: a result whose cells, such as `=HYPERLINK(…).png`, run no formula."""

from collections.abc import Iterable, Iterator

from visionflows.escaping import escape_formula
from visionflows.scoring.columns import csv_line


def spreadsheet_lines(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[bytes]:
    """The lines of spreadsheet.csv; no cell is a formula."""
    # Without the byte order mark, Excel assumes the encoding of its country.
    yield "\ufeff".encode() + csv_line(map(escape_formula, header))
    for row in rows:
        yield csv_line(map(escape_formula, row))
