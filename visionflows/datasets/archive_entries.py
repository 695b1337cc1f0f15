"""What is in an archive that nobody vouches for: its entries, each checked before it is handed on.

    from visionflows.datasets.archive_entries import Entries
    for entry in Entries("pets.tgz", "pets"): print(entry.info.name)

Every entry, a zip's too (`visionflows.datasets.zip_entries`), passes Python's own `tarfile.data_filter`
(PEP 706) and our limits, and a tar is read as a stream, so that a bomb is stopped before it goes
off. What comes out of here is written by `visionflows.datasets.archive`.
"""

import bz2
import contextlib
import io
import lzma
import posixpath
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple, Self

from visionflows.datasets.content_sniffing import HEAD, kind_of
from visionflows.datasets.gzip_reader import MAGIC, open_gzip
from visionflows.datasets.zip_entries import zip_entries
from visionflows.errors import ArchiveError, StorageError
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import encode_name

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Up to here an archive may shrink as well as it likes: this much harms no disk.
UNSUSPECTED_BYTES = 64 << 20
# Each level costs a folder on the disk and next to nothing in the archive.
MAX_DEPTH = 50
# What tells about one entry, names above all; tarfile reads it into memory in one piece.
MAX_HEADER_BYTES = 1 << 20
_TODO = "nothing was unpacked; if you trust it, unpack it yourself and give the folder"
LEADS_OUT = "is a link that leads out of the archive"

_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")
_Opener = Callable[[Path, Literal["rb"]], io.BufferedIOBase]
_TAR_MAGIC: dict[bytes, _Opener] = {
    MAGIC: open_gzip,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x28\xb5\x2f\xfd": zstd.open,
}
_REFUSED = {
    tarfile.OutsideDestinationError: "lies outside the archive",
    tarfile.LinkOutsideDestinationError: LEADS_OUT,
    tarfile.AbsoluteLinkError: LEADS_OUT,
    tarfile.SpecialFileError: "is a device or a pipe",
}
# What the decoders raise on broken bytes. RuntimeError includes tarfile's recursion on endless
# headers.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, zstd.ZstdError),
    *(EOFError, OSError, ValueError, LookupError, RuntimeError, struct.error),
)


@dataclass(frozen=True)
class UnpackLimits:
    """How much an archive may unpack to before it is taken for a bomb."""

    files: int = 2_000_000  # folders and links count too; ImageNet-1k has 1.4 million files
    bytes: int = 1 << 40
    ratio: float = 100.0  # unpacked size over packed size; photos stay near 1


LIMITS = UnpackLimits()


class Entry(NamedTuple):
    """One thing in an archive, told as a tar tells it, and what opens it if it is a file."""

    info: tarfile.TarInfo
    open: Callable[[], IO[bytes]]


class Entries:
    """The entries of one archive in its own order, for the folder `root`, which is still empty.

    Going over them raises ArchiveError, naming the archive and the entry, for what is broken,
    leads out of `root`, is no file, folder or link, or passes a limit; PlaceError where `root`
    has no room. `shown` is what people call the archive, by default its path. `files` and
    `bytes` count the regular files that came so far.
    """

    def __init__(
        self,
        archive: str | Path,
        root: str | Path,
        limits: UnpackLimits = LIMITS,
        shown: str = "",
    ):
        self.archive, self.root, self.limits = Path(archive), Path(root), limits
        self.shown = shown or encode_name(str(archive))
        try:
            self.packed = self.archive.stat().st_size
            with self.archive.open("rb") as file:
                self.head = file.read(HEAD)
        except OSError as error:
            raise StorageError(
                f"{self.shown}: cannot be read ({error.strerror}); name an archive that can"
            ) from error
        self.most = max(UNSUSPECTED_BYTES, limits.ratio * self.packed)
        self.count = self.files = self.bytes = 0

    def __iter__(self) -> Iterator[Entry]:
        with decoding(self.shown):
            if self.head.startswith(_ZIP_MAGIC):
                yield from self._zip()
            else:
                self._check_kind()
                yield from self._tar()

    def _check_kind(self) -> None:
        """Raise ArchiveError for what is known to be no archive that can be unpacked here."""
        if not self.head:
            raise EOFError("an empty file, 0 bytes")
        if kind := kind_of(self.head):
            raise ArchiveError(f"{self.shown}: {kind.what}, no .tgz, .tar.* or .zip; {kind.do}")

    def _tar(self) -> Iterator[Entry]:
        # A tar does not tell beforehand what it holds; photos take about the archive's size.
        self._check_room(self.packed)
        opener: _Opener = next((_TAR_MAGIC[m] for m in _TAR_MAGIC if self.head.startswith(m)), open)
        with opener(self.archive, "rb") as stream:
            meter = _Meter(self, stream)
            with tarfile.open(  # type: ignore[call-overload]  # it needs no more than read()
                fileobj=meter, mode="r|", bufsize=1 << 16, tarinfo=_StrictHeader
            ) as tar:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # else tarfile keeps every entry, to find links by name
                    info = self._checked(info)
                    yield Entry(info, partial(tar.extractfile, info))
            while meter.read(1 << 20):
                pass  # on to the end, where the checksum of the whole stands

    def _zip(self) -> Iterator[Entry]:
        with zipfile.ZipFile(self.archive) as packed:
            entries = [
                Entry(self._checked(entry), partial(packed.open, info))
                for info, entry in zip_entries(packed, self.shown)
            ]
            self._check_room(self.bytes)
            yield from entries

    def _checked(self, info: tarfile.TarInfo) -> tarfile.TarInfo:
        """The entry, counted, its name without detours. Raises ArchiveError if it is refused."""
        # Some programs (tar -P) write whole paths. The filter cuts the slash off a name; a hard
        # link's other name was such a path as well.
        if info.islnk() and info.name.startswith("/"):
            info.linkname = info.linkname.lstrip("/")
        try:
            info = tarfile.data_filter(info, str(self.root))
        except tarfile.FilterError as error:
            raise refused(self.shown, info, _REFUSED.get(type(error), str(error))) from error
        info.name = posixpath.normpath(info.name)
        if info.name.count("/") > MAX_DEPTH:
            raise refused(self.shown, info, f"lies more than {MAX_DEPTH} folders deep")
        self.count += 1
        if info.isreg():
            self.files += 1
            self.bytes += info.size
        self._check_limits(info)
        return info

    def _check_limits(self, info: tarfile.TarInfo) -> None:
        if self.count > self.limits.files:
            raise refused(self.shown, info, f"is over the limit of {self.limits.files:,} files")
        if self.bytes > self.limits.bytes:
            raise refused(self.shown, info, f"passes the limit of {self.limits.bytes:,} bytes")
        if self.bytes > self.most:
            raise _bomb(self)

    def _check_room(self, needed: int) -> None:
        free = LocalStorage(self.root.parent).free_bytes()
        if free < needed:
            raise StorageError(
                f"{self.root.parent}: {free:,} bytes are free, but unpacking {self.shown} takes "
                f"{needed:,}; free some, or name another place"
            )


def refused(archive: str, info: tarfile.TarInfo, why: str) -> ArchiveError:
    """The error for an entry that must not be unpacked."""
    return ArchiveError(f"{archive}: the entry {encode_name(info.name)!r} {why}; {_TODO}")


@contextlib.contextmanager
def decoding(archive: str) -> Iterator[None]:
    """Turn whatever the decoders make of broken bytes into an ArchiveError."""
    try:
        yield
    except _BROKEN as error:
        raise ArchiveError(
            f"{archive}: broken, cut short, or no .tgz, .tar.* or .zip ({error}); fetch it again"
        ) from error


def _bomb(entries: Entries) -> ArchiveError:
    return ArchiveError(
        f"{entries.shown}: unpacks to over {entries.limits.ratio:g} times its size, as bombs do; "
        f"{_TODO}"
    )


class _Meter:
    """A stream that breaks off where far more comes out of it than went in."""

    def __init__(self, entries: Entries, stream: io.BufferedIOBase):
        self.entries, self.stream, self.skipped = entries, stream, 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.skipped += len(data)
        if self.skipped > self.entries.most:
            raise _bomb(self.entries)
        return data


class _StrictHeader(tarfile.TarInfo):
    """A tar header that must be whole: tarfile takes a broken or missing one for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise  # the block of zeros that ends a whole tar
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        if info.size > MAX_HEADER_BYTES and not info.isreg():
            raise tarfile.ReadError(f"a header of {info.size:,} bytes")
        return info
