r"""Texts from outside (file names, endings, tags, a server's words, class names), made harmless.

    printable("a\x1b[31m\n\udce9")    # r"a\x1b[31m\n\xe9": one line on a terminal, in a log
    utf8("caf\udce9")                 # rb"caf\xe9": the bytes of a file
    escape_formula("=1+1.jpg")        # "'=1+1.jpg": a cell of a CSV that people open

Names that programs read back are written by `visionflows.storage.name_encoding`.
"""

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")
_JOINERS = "\u200c\u200d"  # of letters and emoji; other invisible characters turn or hide text
# What begins a formula, also after characters that programs strip (tab, line ends), and the wide
# forms that some programs treat alike: OWASP, CSV Injection. Added quotes can be told from others.
_FORMULA = "=+\\-@＝＋－＠"
_BEGINS = f"'* *'*[{_FORMULA}\t\r\n]"
# Separators that Excel uses in some countries, or that an import dialog offers: csv quotes a comma.
_SEPARATOR = '([;|\t\r\n][ "]*)'
_DEGREES = re.compile(r"-[0-9]{1,3}\.[0-9]{6}")


def printable(text: str) -> str:
    r"""The text on one line: control, invisible and direction characters as `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escape(char) for char in text)


def _is_harmless(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    """A character as an escape; a byte of a name that is not UTF-8 as `encode_name` writes it."""
    byte = ord(char) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else char.encode("unicode_escape").decode()


def utf8(text: str, backslash: str = "\\") -> bytes:
    r"""The text as UTF-8; what UTF-8 cannot hold as `\xe9` (in JSON with another backslash)."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        escaped = _SURROGATE.sub(lambda char: _escape(char[0]).replace("\\", backslash), text)
        return escaped.encode()


def escape_formula(cell: str) -> str:
    """The cell with a `'` wherever a spreadsheet could read a formula, also after a separator."""
    if _DEGREES.fullmatch(cell):  # south and west (images.exif): a number
        return cell
    cell = re.sub(f"{_SEPARATOR}(?='*[{_FORMULA}])", r"\1'", cell)
    return re.sub(f"^(?={_BEGINS})", "'", cell)


def unescape_formula(cell: str) -> str:
    """The cell of which `escape_formula` made this one."""
    cell = re.sub(f"^'(?={_BEGINS})", "", cell)
    return re.sub(f"{_SEPARATOR}'(?='*[{_FORMULA}])", r"\1", cell)
