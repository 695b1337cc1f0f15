"""The entries of a zip, as a tar would tell them: by the names that were meant.

    from visionflows.datasets.zip_entries import zip_entries
    with zipfile.ZipFile("photos.zip") as packed:
        for info, entry in zip_entries(packed, "photos.zip"): print(entry.name)

A zip may say that its names are UTF-8, and a Mac's does not, though they are. Some that Windows
wrote part folders by backslashes.
"""

import logging
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from visionflows.errors import ArchiveError
from visionflows.storage.name_encoding import encode_name

_LOCKED, _UTF8 = 0x1, 0x800  # bits of an entry's flags
_DOS_FOLDER = 0x10  # a bit of an entry's attributes where files have no modes
_UNICODE_PATH = 0x7075  # the extra field in which WinRAR and 7-Zip say a name again, in UTF-8
_WINDOWS = (0, 10, 14)  # what made an entry: FAT, NTFS, VFAT
_UNPACKED_HERE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_OTHERS = {9: "deflate64", 93: "zstd", 95: "xz", 98: "PPMd"}

logger = logging.getLogger("visionflows.archive")


def zip_entries(
    packed: zipfile.ZipFile, shown: str
) -> Iterator[tuple[zipfile.ZipInfo, tarfile.TarInfo]]:
    """The entries of an open zip, which people know as `shown`.

    Raises ArchiveError where it is locked, or packed in a way that Python does not know.
    """
    infos = packed.infolist()
    for info in infos:
        _check_readable(info, shown)
    for info, name in zip(infos, _names(infos, shown), strict=True):
        yield info, _as_tar(packed, info, name)


def _check_readable(info: zipfile.ZipInfo, shown: str) -> None:
    if info.flag_bits & _LOCKED:
        raise ArchiveError(f"{shown}: locked with a password; unpack it yourself, give the folder")
    if info.compress_type not in _UNPACKED_HERE:
        how = _OTHERS.get(info.compress_type, f"method {info.compress_type}")
        raise ArchiveError(
            f"{shown}: packed with {how}, which is not known here; unpack it (7z x) and give the "
            "folder"
        )


def _names(infos: list[zipfile.ZipInfo], shown: str) -> list[str]:
    """The names that were meant, with slashes between folders."""
    names, guessed = [], []
    for info in infos:
        name = info.orig_filename.partition("\0")[0]
        if not info.flag_bits & _UTF8 and not name.isascii():
            name, known = _decoded(name.encode("cp437"), info.extra)
            guessed += [] if known else [name]
        names.append(name)
    if guessed:
        logger.warning(
            "%s: names that are not UTF-8, taken for DOS's code page 437: %d, such as %r",
            *(shown, len(guessed), encode_name(guessed[0])),
        )
    slashed = any("/" in name for name in names)
    return [
        name.replace("\\", "/") if info.create_system in _WINDOWS or not slashed else name
        for info, name in zip(infos, names, strict=True)
    ]


def _decoded(raw: bytes, extra: bytes) -> tuple[str, bool]:
    """A name that is not marked as UTF-8, and whether it is known to be right."""
    for candidate in (*_unicode_paths(raw, extra), raw):
        try:
            return candidate.decode(), True
        except UnicodeDecodeError:
            continue
    return raw.decode("cp437"), False


def _unicode_paths(raw: bytes, extra: bytes) -> Iterator[bytes]:
    """The name in an entry's extra field, if it is that of this very name (APPNOTE 4.6.9)."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            yield field[5:]


def _as_tar(packed: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> tarfile.TarInfo:
    """A zip's entry as a tar would tell it, so that both pass the same gate."""
    entry = tarfile.TarInfo(name)
    mode = stat.S_IFMT(info.external_attr >> 16)
    of_dos = mode == 0 and info.external_attr & _DOS_FOLDER and not info.file_size
    if name.endswith("/") or mode == stat.S_IFDIR or of_dos:
        entry.type = tarfile.DIRTYPE
    elif mode == stat.S_IFLNK:
        entry.type = tarfile.SYMTYPE
        with packed.open(info) as file:
            entry.linkname = os.fsdecode(file.read(4096))  # no path is longer on Linux
    elif mode in (stat.S_IFREG, 0):  # 0: made where files have no modes
        entry.size = info.file_size
    else:
        entry.type = tarfile.CHRTYPE
    return entry
