"""A copy of a result that a spreadsheet shows and never runs: `score --spreadsheet`.

    from visionflows.scoring.exports.spreadsheet import SIGNATURE, as_text
    as_text("=HYPERLINK(…).png")                     # "'=HYPERLINK(…).png"

A file called `=cmd|…` is a row like any other, and its name is what predictions.csv says. Excel,
LibreOffice and Google Sheets take such a cell for a formula when a person opens the file.
"""

import re

# What begins a formula, also behind what is cut off on the way (tab, line ends), and in the wide
# forms that some of them read alike: OWASP, CSV Injection.
_FORMULA = "=+-@＝＋－＠"
_BEGINS = (*_FORMULA, "\t", "\r", "\n")
# What some countries' Excel, or a person in a dialog, has for a separator: csv quotes only a comma.
_WITHIN = re.compile(f'([;|\\t\\r\\n][ "]*)(?=[{re.escape(_FORMULA)}])')
_DEGREES = re.compile(r"-[0-9]{1,3}\.[0-9]{6}")
SIGNATURE = "\ufeff".encode()  # without it Excel takes the file for the encoding of its country


def as_text(cell: str) -> str:
    """The cell with a `'` where a spreadsheet would take it, or what follows a separator of others'
    in it, for a formula.

    Degrees south and west (images.exif) are numbers, and stay so.
    """
    if _DEGREES.fullmatch(cell):
        return cell
    cell = _WITHIN.sub(r"\1'", cell)
    return f"'{cell}" if cell.lstrip(" ").startswith(_BEGINS) else cell
