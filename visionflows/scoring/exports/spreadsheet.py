"""spreadsheet.csv: the rows of a result for Excel, LibreOffice or Google Sheets (--spreadsheet).

A file may be named `=HYPERLINK(…).png`. Spreadsheet programs run such a cell as a formula.
"""

import re
from collections.abc import Iterable, Iterator

from visionflows.scoring.columns import csv_line

# What begins a formula, also after characters that programs strip (tab, line ends), and the wide
# forms that some programs treat alike: OWASP, CSV Injection.
_FORMULA = "=+-@＝＋－＠"
_BEGINS = (*_FORMULA, "\t", "\r", "\n")
# Separators that Excel uses in some countries, or that an import dialog offers: csv quotes a comma.
_WITHIN = re.compile(f'([;|\\t\\r\\n][ "]*)(?=[{re.escape(_FORMULA)}])')
_DEGREES = re.compile(r"-[0-9]{1,3}\.[0-9]{6}")
SIGNATURE = "\ufeff".encode()  # without it, Excel assumes the encoding of its country


def spreadsheet_lines(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[bytes]:
    """The lines of spreadsheet.csv; no cell is a formula."""
    yield SIGNATURE + csv_line(map(escape_formula, header))
    for row in rows:
        yield csv_line(map(escape_formula, row))


def escape_formula(cell: str) -> str:
    """The cell with a `'` wherever a spreadsheet could read a formula, also after a separator.

    Degrees south and west (images.exif) are numbers, and stay unchanged.
    """
    if _DEGREES.fullmatch(cell):
        return cell
    cell = _WITHIN.sub(r"\1'", cell)
    return f"'{cell}" if cell.lstrip(" ").startswith(_BEGINS) else cell
