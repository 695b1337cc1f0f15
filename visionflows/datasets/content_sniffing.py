"""What a file that should be an archive is, by its first bytes, and what to do about it."""

import codecs
import html
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from visionflows.errors import ArchiveError
from visionflows.images.formats import detect_format

HEAD_BYTES = 4096
_MAX_QUOTE = 80  # characters

_UNPACK = "unpack it and give the folder"
_EXTRACT = "write its pictures into a folder and give that"
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
    b"PAR1": ("a Parquet table", _EXTRACT),
    b"\x89HDF": ("an HDF5 file", _EXTRACT),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file", "run git lfs pull first"),
}
_SAVE = "save it as CSV UTF-8 (comma delimited)"
_TABLES = {  # files that are given as a CSV
    b"PK\3\4": ("an Excel workbook, or a zip", _SAVE),
    b"\xd0\xcf\x11\xe0": ("a workbook of an old Excel", _SAVE),
    b"\xff\xfe": ("UTF-16 text, such as Excel's Unicode Text", _SAVE),
    b"\xfe\xff": ("UTF-16 text", _SAVE),
    b"\x1f\x8b": ("a gzip file", "unpack it (gunzip)"),
    b"BZh": ("a bzip2 file", "unpack it (bunzip2)"),
    b"\xfd7zXZ": ("an xz file", "unpack it (unxz)"),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "unpack it (unzstd)"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV"),
}
_DOWNLOAD = "save the file itself, not what the browser shows, and give that"
_PAGE = re.compile(r"(<.{,1000})?<(!doctype html|html|head)\b", re.IGNORECASE | re.DOTALL)
ARCHIVE_SUFFIX = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|tzst|zip|rar|7z)$", re.IGNORECASE)

# What to do about a web page from these hosts and their subdomains.
_IN_BROWSER = "open it in a browser, download the file there, and give that"
_HINTS = {
    "dropbox.com": "end the address in ?dl=1, and share it with everyone who has the link",
    "drive.google.com": _IN_BROWSER,
    "docs.google.com": _IN_BROWSER,
    "onedrive.live.com": _IN_BROWSER,
    "kaggle.com": "kaggle wants a login: run kaggle datasets download, and give the file",
    "github.com": "add ?raw=true to the address of a file",
    "huggingface.co": "write /resolve/ in the address where it says /blob/",
}
_HINT = "open it in a browser: if it wants a login, download the file there and give that"


class Content(NamedTuple):
    """What a file is, as an error names it, and what to do with it."""

    name: str
    advice: str
    is_text: bool = False


def is_archive_name(name: str) -> bool:
    """Whether a file name ends like an archive's, in any case."""
    return bool(ARCHIVE_SUFFIX.search(name))


def sniff(head: bytes) -> Content | None:
    """What a file with these first bytes is; None for a tar and for unknown content."""
    if head[257:262] == b"ustar":
        return None
    for magic, known in _MAGIC.items():
        if head.startswith(magic):
            return Content(*known)
    image = detect_format(head)
    if image and image.is_image:
        return Content(f"a picture ({image.name})", "give the folder that it lies in")
    text = _decode(head)
    return Content(_describe_text(text), _DOWNLOAD, is_text=True) if text else None


def sniff_table(data: bytes) -> Content | None:
    """What a file is that was given as a CSV; None if it may be one: UTF-8, and not JSON or XML."""
    for magic, known in _TABLES.items():
        if data.startswith(magic):
            return Content(*known)
    if data.count(0, 0, 200) > 50:
        return sniff(data[:HEAD_BYTES]) or Content("UTF-16 text, or no text", _SAVE)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        guess = data[error.start : error.start + 1].decode("cp1252", "replace")
        other = Content(f"not UTF-8 text, perhaps Windows-1252 ({guess!r} in line {line})", _SAVE)
        return sniff(data[:HEAD_BYTES]) or other
    start = _decode(data[:HEAD_BYTES])
    if start[:1] in ("{", "[", "<") and start:
        return Content(_describe_text(start), "write a CSV with the columns path and label")
    return None


def check_download(url: str, path: Path) -> None:
    """Raise ArchiveError if a server answered with a page, a message or nothing at all.

    Such answers come with status 200, so only the bytes tell. `url` is shown in the error.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    content = sniff(head)
    if head and not (content and content.is_text):
        return
    host = f".{urlsplit(url).hostname or ''}"
    hint = next((hint for name, hint in _HINTS.items() if host.endswith(f".{name}")), _HINT)
    name = content.name if content else "nothing (0 bytes)"
    raise ArchiveError(f"{url}: answered with {name}, not with an archive; {hint}")


def _decode(head: bytes) -> str:
    """The text that a file begins with: UTF-8, or a web page in any encoding; else empty."""
    head = head.removeprefix(codecs.BOM_UTF8)
    try:  # incremental, as the last character may be cut
        text = codecs.getincrementaldecoder("utf-8")().decode(head).strip()
    except UnicodeDecodeError:
        text = head.decode("latin-1").strip()
        if not _PAGE.match(text):
            return ""
    return text if all(char.isprintable() or char.isspace() for char in text) else ""


def _describe_text(text: str) -> str:
    if _PAGE.match(text):
        title = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
        name = f", {_quote(html.unescape(title[1]))!r}" if title else ""
        return f"a web page (text/html{name})"
    kind = {"<": "XML", "{": "JSON", "[": "JSON"}.get(text[0], "a text")
    return f"{kind} ({_quote(text)})"


def _quote(text: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_QUOTE else f"{line[:_MAX_QUOTE]}…"
