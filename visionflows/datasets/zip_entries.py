"""The entries of a zip as tar entries.

macOS writes UTF-8 names without marking them so; some Windows programs write backslashes.
"""

import contextlib
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

_ENCRYPTED, _UTF8 = 0x1, 0x800  # bits of an entry's flags
_DOS_FOLDER = 0x10  # an attribute bit where files have no modes
_UNICODE_PATH = 0x7075  # the extra field in which WinRAR and 7-Zip repeat a name in UTF-8
_WINDOWS = (0, 10, 14)  # systems that made an entry: FAT, NTFS, VFAT
_ENCODINGS = ("shift_jis", "gb18030", "euc_kr", "cp866")  # of names, by Windows elsewhere
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_OTHER_METHODS = {9: "deflate64", 93: "zstd", 95: "xz", 98: "PPMd"}

logger = logging.getLogger("visionflows.archive")


def zip_entries(
    packed: zipfile.ZipFile, text: str
) -> Iterator[tuple[zipfile.ZipInfo, tarfile.TarInfo]]:
    """The entries of a zip, which errors call `text`. Raises ArchiveError if one is unreadable."""
    infos = packed.infolist()
    for info in infos:
        _check_readable(info, text)
    for info, name in zip(infos, _names(infos, text), strict=True):
        yield info, _as_tar(packed, info, name)


def _check_readable(info: zipfile.ZipInfo, text: str) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise ArchiveError(f"{text}: locked with a password; unpack it yourself, give the folder")
    if info.compress_type not in _METHODS:
        method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
        raise ArchiveError(
            f"{text}: packed with {method}, which is not known here; unpack it (7z x) and give the "
            "folder"
        )


def _names(infos: list[zipfile.ZipInfo], text: str) -> list[str]:
    """The decoded names, with slashes between folders."""
    names: list[str] = []
    unmarked: dict[int, bytes] = {}  # by position
    for at, info in enumerate(infos):
        name = info.orig_filename.partition("\0")[0]
        if not info.flag_bits & _UTF8 and not name.isascii():
            raw = name.encode("cp437")
            name = next(_unicode_paths(raw, info.extra), "")
            unmarked |= {} if name else {at: raw}
        names.append(name)
    for at, name in zip(unmarked, _decoded([*unmarked.values()], text), strict=True):
        names[at] = name
    has_slashes = any("/" in name for name in names)
    return [
        name.replace("\\", "/") if info.create_system in _WINDOWS or not has_slashes else name
        for info, name in zip(infos, names, strict=True)
    ]


def _decoded(raw: list[bytes], text: str) -> list[str]:
    """Names without a known encoding, all as UTF-8 or none: one in Chinese may be it by chance."""
    try:
        return [name.decode() for name in raw]
    except UnicodeDecodeError:
        names = [name.decode("cp437") for name in raw]
    logger.warning(
        "%s: names that are not UTF-8, taken for DOS's code page 437: %d, such as %r%s",
        *(text, len(names), encode_name(names[0]), _other_readings(raw)),
    )
    return names


def _other_readings(raw: list[bytes]) -> str:
    """How the first name reads in encodings that all names may be in, and how to use one."""
    readings = []
    for encoding in _ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            decoded = [each.decode(encoding) for each in raw]
            if all(name.isprintable() for name in decoded):
                readings.append(f"{decoded[0]!r} in {encoding}")
    if not readings:
        return ""
    return (
        f"; the name is {', '.join(readings)}: if one of these is right, unpack it with unzip -O "
        "ENCODING and give the folder"
    )


def _unicode_paths(raw: bytes, extra: bytes) -> Iterator[str]:
    """The name in an entry's extra field, if its checksum is of this name (APPNOTE 4.6.9)."""
    while len(extra) >= 4:
        field_id, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if field_id == _UNICODE_PATH and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            with contextlib.suppress(UnicodeDecodeError):
                yield field[5:].decode()


def _as_tar(packed: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> tarfile.TarInfo:
    """The entry as a tar describes it, so that both pass the same checks."""
    entry = tarfile.TarInfo(name)
    mode = stat.S_IFMT(info.external_attr >> 16)
    is_dos_folder = mode == 0 and info.external_attr & _DOS_FOLDER and not info.file_size
    if name.endswith("/") or mode == stat.S_IFDIR or is_dos_folder:
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
