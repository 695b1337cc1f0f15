"""The keywords that photo managers write into images, and into XMP files beside them.

XMP dc:subject and lr:hierarchicalSubject, IPTC keywords (2:25), and Windows' XPKeywords.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL.ImageFile import ImageFile
from PIL.IptcImagePlugin import getiptcinfo

from visionflows.images import formats
from visionflows.images.open import opened_header
from visionflows.xml_elements import XmlError, read_elements

MAX_KEYWORDS = 10_000  # of an image
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_ITEM = f"/{_RDF}Bag/{_RDF}li"
_FLAT = f"http://purl.org/dc/elements/1.1/ subject{_ITEM}"
_TREE = f"http://ns.adobe.com/lightroom/1.0/ hierarchicalSubject{_ITEM}"
_BEGIN, _END = b"<x:xmpmeta", b"</x:xmpmeta>"
_XP_KEYWORDS = 0x9C9E
_UNOPENED = (formats.JPEG2000, formats.HEIF, formats.AVIF)  # by decoders that cannot be interrupted


class Keywords(NamedTuple):
    """Keywords by themselves, and those in a tree: their parts from the root on."""

    flat: tuple[str, ...] = ()
    trees: tuple[tuple[str, ...], ...] = ()

    def __add__(self, other: Any) -> "Keywords":
        return Keywords(self.flat + other.flat, self.trees + other.trees)

    def below(self, branch: str) -> list[str]:
        """The last part of each keyword below a branch such as `Species|Birds`; all without one."""
        wanted = branch.casefold().split("|") if branch else []
        leaves = [
            tree[-1]
            for tree in self.trees
            if len(tree) > len(wanted)
            and [part.casefold() for part in tree[: len(wanted)]] == wanted
        ]
        return leaves if branch else [*self.flat, *leaves]


def read_keywords(data: bytes) -> Keywords:
    """The keywords in an image. Raises BadImage, and XmlError for damaged XMP.

    Formats whose headers are not read in this process are searched for their XMP only.
    """
    format = formats.detect_format(data[: formats.HEAD])
    if format in _UNOPENED:
        return read_xmp(_packet(data))
    with opened_header(data) as file:
        flat = (*_iptc(file), *_windows(file.getexif()))
        xmp = file.info.get("xmp", b"")
    if not xmp and format is not formats.JPEG:  # a PNG may have it behind its pixels
        xmp = _packet(data)
    return Keywords(flat) + read_xmp(xmp)


def _packet(data: bytes) -> bytes:
    """The first XMP in a file, which may be searched for it (ISO 16684-1, annex A)."""
    start = data.find(_BEGIN)
    end = data.find(_END, start)
    return data[start : end + len(_END)] if 0 <= start < end else b""


def read_xmp(data: bytes) -> Keywords:
    """The keywords in XMP; none if it is empty. Raises XmlError."""
    flat: list[str] = []
    trees: list[tuple[str, ...]] = []
    data = data.strip(b"\0 \r\n")
    for path, _, text in read_elements([data], namespaces=True) if data else ():
        if path.endswith(_FLAT):
            flat.append(text)
        elif path.endswith(_TREE):
            trees.append(tuple(part for each in text.split("|") if (part := each.strip())))
        if len(flat) + len(trees) > MAX_KEYWORDS:
            raise XmlError(f"has more than {MAX_KEYWORDS:,} keywords")
    return Keywords(tuple(flat), tuple(filter(None, trees)))


def _iptc(file: ImageFile) -> list[str]:
    fields = getiptcinfo(file) or {}
    found = fields.get((2, 25), [])
    return [_text(value) for value in (found if isinstance(found, list) else [found])]


def _windows(tags: Mapping[int, Any]) -> list[str]:
    value = bytes(tags.get(_XP_KEYWORDS, b""))
    return value.decode("utf-16-le", "replace").replace("\0", "").split(";")


def _text(value: bytes) -> str:
    """UTF-8, as most programs write it, else Windows-1252."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")
