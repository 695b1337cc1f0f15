"""What a file is that is none of our archives, by its first bytes, and what to do about it.

from visionflows.datasets.content_sniffing import HEAD, kind_of
kind_of(open("pets.zip", "rb").read(HEAD))      # Kind("a web page …", "save the file …")
"""

import codecs
import html
import re
from typing import NamedTuple

HEAD = 4096  # bytes that tell
_LONGEST = 80  # characters of what is quoted

_UNPACK = "unpack it and give the folder"
_MAGIC = {
    b"Rar!\x1a\7": ("a RAR archive", f"{_UNPACK} (unrar x, or 7z x)"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", f"{_UNPACK} (7z x)"),
    b"PK\7\x08": ("the first part of a split zip", "join its parts (zip -s 0 --out whole.zip)"),
    b"\x04\x22\x4d\x18": ("an lz4 file", f"{_UNPACK} (lz4 -d, then tar -x)"),
    b"LZIP": ("an lzip file", f"{_UNPACK} (tar --lzip -x)"),
    b"\x1f\x9d": ("a file of Unix compress", f"{_UNPACK} (uncompress, then tar -x)"),
    b"MSCF": ("a Windows cabinet", f"{_UNPACK} (cabextract)"),
    b"MZ": ("a Windows program", "if it unpacks itself, let it, and give the folder"),
    b"xar!": ("a macOS package", _UNPACK),
    b"%PDF": ("a PDF", "give an archive or a folder of pictures"),
    b"PAR1": ("a Parquet table", "write its pictures into a folder and give that"),
    b"\x89HDF": ("an HDF5 file", "write its pictures into a folder and give that"),
    b"\xff\xd8\xff": ("a picture (JPEG)", "give the folder that it lies in"),
    b"\x89PNG": ("a picture (PNG)", "give the folder that it lies in"),
    b"GIF8": ("a picture (GIF)", "give the folder that it lies in"),
    b"II*\0": ("a picture (TIFF)", "give the folder that it lies in"),
    b"MM\0*": ("a picture (TIFF)", "give the folder that it lies in"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file", "run git lfs pull first"),
}
_RIFF = {b"WEBP": ("a picture (WebP)", "give the folder that it lies in")}
_FETCH = "save the file itself, not what the browser shows, and give that"


_PAGE = re.compile(r"(<.{,1000})?<(!doctype html|html|head)\b", re.IGNORECASE | re.DOTALL)
_ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|tzst|zip|rar|7z)$", re.IGNORECASE)


def is_archive_name(name: str) -> bool:
    """Whether a file name ends as an archive's does, in any case."""
    return bool(_ARCHIVE.search(name))


class Kind(NamedTuple):
    """What a file is, for a line, and what to do with it."""

    what: str
    do: str
    is_text: bool = False  # as a server's answer, it is the server that speaks


def kind_of(head: bytes) -> Kind | None:
    """What a file is whose first bytes these are; None for a tar, and for what is not known."""
    if head[257:262] == b"ustar":
        return None
    for magic, told in _MAGIC.items():
        if head.startswith(magic):
            return Kind(*told)
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return Kind(*_RIFF[head[8:12]])
    what = _text_kind(head)
    return Kind(what, _FETCH, is_text=True) if what else None


def _text_kind(head: bytes) -> str:
    """What a text is; empty for what is none, such as a tar without a mark, which has zeros."""
    text = _text(head)
    if not text or not all(sign.isprintable() or sign.isspace() for sign in text):
        return ""
    if _PAGE.match(text):
        title = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
        name = f", {_short(html.unescape(title[1]))!r}" if title else ""
        return f"a web page (text/html{name})"
    kind = {"<": "XML", "{": "JSON", "[": "JSON"}.get(text[0], "a text")
    return f"{kind} ({_short(text)})"


def _text(head: bytes) -> str:
    """The beginning as text, if it is UTF-8, or a page, which may be in any letters."""
    head = head.removeprefix(codecs.BOM_UTF8)
    try:  # as a piece, since the last sign may be cut
        return codecs.getincrementaldecoder("utf-8")().decode(head).strip()
    except UnicodeDecodeError:
        text = head.decode("latin-1").strip()
        return text if _PAGE.match(text) else ""


def _short(text: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
