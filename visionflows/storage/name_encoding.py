"""Names of files as text that fits into a CSV, and back.

    from visionflows.storage.name_encoding import decode_name, encode_name
    decode_name(encode_name("caf\\udce9.jpg")) == "caf\\udce9.jpg"

A name is what the file system says, with `/` between folders. A name that is not UTF-8 is
held as Python holds it (surrogates).
"""

import re

_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")


def encode_name(name: str) -> str:
    r"""A file name as text that UTF-8 can hold, different for different names.

    Most names come back as they are. In a part between slashes that has bytes which are not
    UTF-8, those bytes become `\xNN` and backslashes double; so they do in a part that itself
    contains a literal `\xNN`, so that the two can never be taken for each other.
    """
    if name.isascii() and "\\x" not in name:
        return name
    return "/".join(_part_text(part) for part in name.split("/"))


def _part_text(part: str) -> str:
    try:
        part.encode()
    except UnicodeEncodeError:
        pass
    else:
        if not _ESCAPED.search(part):
            return part
    doubled = part.replace("\\", "\\\\")
    return "".join(
        f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char for char in doubled
    )


def decode_name(text: str) -> str:
    """The file name that `encode_name` wrote."""
    if "\\x" not in text:
        return text
    return "/".join(_part_name(part) for part in text.split("/"))


def _part_name(part: str) -> str:
    if not _ESCAPED.search(part):
        return part
    return re.sub(
        r"\\\\|\\x([0-9a-f]{2})",
        lambda match: chr(0xDC00 + int(match[1], 16)) if match[1] else "\\",
        part,
    )
