"""spreadsheet.csv: a result whose cells, such as `=HYPERLINK(…).png`, run no formula."""

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


def spreadsheet_lines(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[bytes]:
    """The lines of spreadsheet.csv; no cell is a formula."""
    # Without the byte order mark, Excel assumes the encoding of its country.
    yield "\ufeff".encode() + csv_line(map(escape_formula, header))
    for row in rows:
        yield csv_line(map(escape_formula, row))


def escape_formula(cell: str) -> str:
    """The cell with a `'` wherever a spreadsheet could read a formula, also after a separator."""
    if _DEGREES.fullmatch(cell):  # south and west (images.exif): a number
        return cell
    cell = _WITHIN.sub(r"\1'", cell)
    return f"'{cell}" if cell.lstrip(" ").startswith(_BEGINS) else cell
