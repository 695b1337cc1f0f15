"""The entries of an untrusted archive, each checked before it is yielded.

Tar and zip entries pass `tarfile.data_filter` (PEP 706) and limits; a bomb is stopped early.
"""

import bz2
import contextlib
import gzip
import io
import logging
import lzma
import posixpath
import re
import struct
import sys
import tarfile
import types
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Self

from visionflows.datasets.content_sniffing import HEAD_BYTES, sniff
from visionflows.datasets.zip_entries import zip_entries
from visionflows.errors import ArchiveError, StorageError
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import encode_name

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# How much an archive may unpack to before it counts as a bomb.
MAX_FILES = 2_000_000  # folders and links count too; ImageNet-1k has 1.4 million files
MAX_BYTES = 1 << 40
MAX_RATIO = 100  # unpacked size over packed size; photos stay near 1
RATIO_FREE_BYTES = 64 << 20  # the ratio limit starts here: this much harms no disk
MAX_DEPTH = 50  # each level costs a folder on the disk, next to nothing in the archive
MAX_HEADER_BYTES = 1 << 20  # tarfile reads a header, such as a name, into memory in one piece
_ADVICE = "nothing was unpacked; if you trust it, unpack it yourself and give the folder"
_JOIN = (
    "fetch it again or, if it is the first part of a split archive, join the parts: "
    "cat set.zip.001 set.zip.002 … > set.zip"
)
_PART = re.compile(r"\.(\d{2,3}|z\d\d|part\d+)$", re.IGNORECASE)  # the ending of a part's name
LEADS_OUT = "is a link that leads out of the archive"

_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")

logger = logging.getLogger("visionflows.archive")


class _Gzip(gzip.GzipFile):
    """A gzip file whose trailing bytes are ignored, as by `gzip -d`; Python calls it broken."""

    is_ended = False

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes; empty at the end."""
        try:
            return b"" if self.is_ended else self.read1(-1 if size is None else size)
        except gzip.BadGzipFile as error:
            if not str(error).startswith("Not a gzipped file"):  # another header or checksum
                raise
            logger.warning("%s: trailing bytes after its end are ignored", self.name)
            self.is_ended = True
            return b""


_Opener = Callable[[Path, Literal["rb"]], io.BufferedIOBase]
_OPENERS: dict[bytes, _Opener] = {
    b"\x1f\x8b": _Gzip,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x28\xb5\x2f\xfd": zstd.open,
}
_REASONS = {
    tarfile.OutsideDestinationError: "lies outside the archive",
    tarfile.LinkOutsideDestinationError: LEADS_OUT,
    tarfile.AbsoluteLinkError: LEADS_OUT,
    tarfile.SpecialFileError: "is a device or a pipe",
}
# Errors of decoders on broken bytes. RuntimeError: tarfile's recursion on endless headers.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstd.ZstdError),
    *(EOFError, OSError, ValueError, LookupError, RuntimeError, struct.error),
)


class Entry(NamedTuple):
    """One entry as a tar describes it, and the function that opens a file's content."""

    info: tarfile.TarInfo
    open: Callable[[], IO[bytes]]


class Entries:
    """The entries of an archive in its own order, for the folder `root`, which is still empty.

    Iteration raises ArchiveError, naming archive and entry, for what is broken, leads out of
    `root`, is no file, folder or link, or exceeds a limit; StorageError if `root` has no space.
    Errors call the archive `text`, by default its path.
    """

    def __init__(self, archive: str | Path, root: Path, text: str):
        self.archive, self.root = Path(archive), root
        self.text = text or encode_name(str(archive))
        self.packed = self.archive.stat().st_size
        with self.archive.open("rb") as file:
            self.head = file.read(HEAD_BYTES)
        self.max_unpacked = max(RATIO_FREE_BYTES, MAX_RATIO * self.packed)
        self.count = self.files = self.bytes = 0  # so far: entries, regular files, their bytes
        self.decompressed = 0  # bytes of a tar, so far

    def __iter__(self) -> Iterator[Entry]:
        with archive_errors(self.text):
            if not self.head:
                raise EOFError("an empty file, 0 bytes")
            if self._is_zip():
                yield from self._zip()
            else:
                yield from self._tar()

    @property
    def _looks_like_tar(self) -> bool:
        return self.head[257:262] == b"ustar" or self.head.startswith(tuple(_OPENERS))

    def _is_zip(self) -> bool:
        """Whether it is a zip: with bytes before it too, such as a program that unpacks it."""
        begins = self.head.startswith(_ZIP_MAGIC)
        if not begins and self._looks_like_tar:
            return False
        ends = zipfile.is_zipfile(self.archive)
        if begins and not ends:
            raise ArchiveError(f"{self.text}: the end of the zip is missing; {_JOIN}")
        if ends and not begins:
            logger.warning("%s: a zip after other bytes, which are ignored", self.text)
        return ends

    def _zip(self) -> Iterator[Entry]:
        with zipfile.ZipFile(self.archive) as packed:
            entries = [
                Entry(self._checked(entry), partial(packed.open, info))
                for info, entry in zip_entries(packed, self.text)
            ]
            self._check_space(self.bytes)
            yield from entries

    def _tar(self) -> Iterator[Entry]:
        if _PART.search(self.text) and not self._looks_like_tar:
            raise ArchiveError(f"{self.text}: a part of a split archive; {_JOIN}")
        if content := sniff(self.head):
            raise ArchiveError(
                f"{self.text}: {content.name}, no .tgz, .tar.* or .zip; {content.advice}"
            )
        self._check_space(self.packed)  # a tar has no index; photos take about the archive's size
        openers = (opener for magic, opener in _OPENERS.items() if self.head.startswith(magic))
        with next(openers, open)(self.archive, "rb") as stream:
            reader = types.SimpleNamespace(read=partial(self._read, stream))
            with tarfile.open(  # it needs no more than read()
                fileobj=reader, mode="r|", bufsize=1 << 16, tarinfo=_StrictHeader
            ) as opened:
                tar: Any = opened  # typeshed lacks its members
                while (info := tar.next()) is not None:
                    tar.members.clear()  # else tarfile keeps every entry, to find links by name
                    info = self._checked(info)
                    yield Entry(info, partial(tar.extractfile, info))
            while reader.read(1 << 20):
                pass  # to the end, where the checksum is

    def _read(self, stream: io.BufferedIOBase, size: int) -> bytes:
        """Bytes of a decompressed stream, which stops at the ratio limit."""
        data = stream.read(size)
        self.decompressed += len(data)
        self._check_ratio(self.decompressed)
        return data

    def _checked(self, info: tarfile.TarInfo) -> tarfile.TarInfo:
        """The entry, counted and its name normalised. Raises ArchiveError if it is refused."""
        # tar -P writes absolute paths. The filter cuts the slash off names, not off hard links.
        if info.islnk() and info.name.startswith("/"):
            info.linkname = info.linkname.lstrip("/")
        try:
            info = tarfile.data_filter(info, str(self.root))
        except tarfile.FilterError as error:
            raise self.error(info, _REASONS.get(type(error), str(error))) from error
        info.name = posixpath.normpath(info.name)
        if info.name.count("/") > MAX_DEPTH:
            raise self.error(info, f"lies more than {MAX_DEPTH} folders deep")
        self.count += 1
        if info.isreg():
            self.files += 1
            self.bytes += info.size
        self._check_limits(info)
        return info

    def _check_limits(self, info: tarfile.TarInfo) -> None:
        if self.count > MAX_FILES:
            raise self.error(info, f"is over the limit of {MAX_FILES:,} files")
        if self.bytes > MAX_BYTES:
            raise self.error(info, f"passes the limit of {MAX_BYTES:,} bytes")
        self._check_ratio(self.bytes)

    def _check_ratio(self, unpacked: int) -> None:
        """Raise ArchiveError if far more bytes come out than went in."""
        if unpacked > self.max_unpacked:
            raise ArchiveError(
                f"{self.text}: unpacks to over {MAX_RATIO} times its size, as bombs do; {_ADVICE}"
            )

    def error(self, info: tarfile.TarInfo, reason: str) -> ArchiveError:
        """The error for an entry that must not be unpacked."""
        name = encode_name(info.name)
        return ArchiveError(f"{self.text}: the entry {name!r} {reason}; {_ADVICE}")

    def _check_space(self, needed: int) -> None:
        free = LocalStorage(self.root.parent).free_bytes()
        if free < needed:
            raise StorageError(
                f"{self.root.parent}: {free:,} bytes are free, but unpacking {self.text} takes "
                f"{needed:,}; free some, or choose another disk"
            )


@contextlib.contextmanager
def archive_errors(archive: str) -> Iterator[None]:
    """Turn the errors of decoders on broken bytes into ArchiveError."""
    try:
        yield
    except _LargeHeader as error:
        raise ArchiveError(f"{archive}: {error}; {_ADVICE}") from error
    except _BROKEN as error:
        advice = _JOIN if _PART.search(archive) else "fetch it again"
        raise ArchiveError(
            f"{archive}: broken, cut short, or no .tgz, .tar.* or .zip ({error}); {advice}"
        ) from error


class _LargeHeader(tarfile.ReadError):
    """A header that is not read into memory."""


class _StrictHeader(tarfile.TarInfo):
    """A tar header that must be intact: tarfile takes a broken or missing one for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise  # the block of zeros that ends an intact tar
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if info.size > MAX_HEADER_BYTES and not info.isreg():
            raise _LargeHeader(
                f"an entry has a header of {info.size:,} bytes (a name, link or attributes), over "
                f"the limit of {MAX_HEADER_BYTES:,}"
            )
        return info
