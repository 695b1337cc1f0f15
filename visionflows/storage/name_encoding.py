r"""File names as text that fits into a CSV, and back.

encode_name("caf\udce9.jpg") == r"caf\xe9.jpg"     # a name that is not UTF-8
decode_name(r"caf\xe9.jpg") == "caf\udce9.jpg"     # as Python holds it: with surrogates
"""

import re

_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")
_NEEDS_ESCAPES = re.compile(rf"[\udc80-\udcff]|{_ESCAPED.pattern}")


def encode_name(name: str) -> str:
    r"""A file name as text that UTF-8 can hold; different names have different texts.

    Most names stay as they are. In a part between slashes with bytes that are not UTF-8, those
    bytes become `\xNN` and backslashes double; likewise in a part that contains a literal `\xNN`.
    """
    if name.isascii() and "\\x" not in name:
        return name
    return "/".join(_encode_part(part) for part in name.split("/"))


def _encode_part(part: str) -> str:
    if not _NEEDS_ESCAPES.search(part):
        return part
    doubled = part.replace("\\", "\\\\")
    return re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", doubled)


def decode_name(text: str) -> str:
    """The file name of which `encode_name` made the text."""
    if "\\x" not in text:
        return text
    return "/".join(_decode_part(part) for part in text.split("/"))


def _decode_part(part: str) -> str:
    if not _ESCAPED.search(part):
        return part
    return re.sub(
        r"\\\\|\\x([0-9a-f]{2})",
        lambda match: chr(0xDC00 + int(match[1], 16)) if match[1] else "\\",
        part,
    )
