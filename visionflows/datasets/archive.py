"""Unpack an archive that nobody vouches for: whole and inside its folder, or not at all.

    from visionflows.datasets.archive import unpack
    unpack("pets.tgz", "pets")                       # .tgz, .tar, .tar.bz2 .xz .zst, or .zip

`visionflows.datasets.archive_entries` checks each entry with Python's own filter first. That filter has been
talked past with chains of links (CVE-2025-4138, -4330, -4517), so nothing here is ever written
through a link: links are made last, and looked at again once they exist.
"""

import contextlib
import ctypes
import errno
import logging
import os
import posixpath
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from visionflows.datasets.archive_entries import (
    LEADS_OUT,
    LIMITS,
    Entries,
    Entry,
    UnpackLimits,
    decoding,
    refused,
)
from visionflows.errors import StorageError
from visionflows.storage.name_encoding import encode_name

CHUNK = 1 << 20
# A write that fails in one of these ways fails on any disk: the name is at fault.
_NAME_FAULTS = (
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ENOENT, errno.EINVAL),
)

logger = logging.getLogger("visionflows.archive")


class Unpacked(NamedTuple):
    """What an archive held: how many regular files, and the sum of their sizes in bytes."""

    files: int
    bytes: int


def unpack(
    archive: str | Path, target: str | Path, limits: UnpackLimits = LIMITS, shown: str = ""
) -> Unpacked:
    """How many files, and bytes in them, the new folder `target` got.

    The folder has its name only when everything is in it, and on the disk. Modes, owners and
    times are the unpacking user's, not the archive's. A link that leads nowhere is left out with
    a warning. One caller at a time for one target. `shown` is what errors call the archive, by
    default its path. Raises ArchiveError, naming the archive and the entry, for what is broken,
    leads out, is no file, folder or link, or passes a limit; PlaceError where the disk is full or
    closed to us. Either way nothing is left behind.
    """
    target = Path(target)
    if target.exists():
        raise StorageError(f"{target}: is there already; name a new folder")
    staging = target.with_name(f".unpacking-{target.name}")
    shutil.rmtree(staging, ignore_errors=True)  # left by a run that was killed
    entries = Entries(archive, staging, limits, shown)
    writing = _Writing(entries.shown, staging)
    try:
        writing.write(entries)
        with writing.to_disk():
            sync_disk(staging)
            staging.rename(target)
            sync_disk(target.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Unpacked(entries.files, entries.bytes)


def sync_disk(folder: Path) -> None:
    """Wait until all that was written to the disk of a folder is on it. Raises OSError.

    One call for the whole disk: of 7,400 photos syncfs took half a second, fsync of each 30.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _syncfs is None:  # macOS
            os.sync()
        elif _syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


_syncfs: Any = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


class _Writing:
    """A folder that fills with entries; what goes wrong is the disk's fault, or a name's."""

    def __init__(self, archive: str, root: Path):
        self.archive, self.root = archive, root

    def write(self, entries: Entries) -> None:
        with self.to_disk():
            self.root.mkdir(parents=True)
        links = []
        for entry in entries:
            if entry.info.issym():
                links.append(entry.info)
                continue
            with self.to_disk(entry.info):
                self._write_one(entry)
        self._link(links)

    def _write_one(self, entry: Entry) -> None:
        path = self.root / entry.info.name
        if entry.info.isdir():
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # where two entries have one name, the later one holds
        if entry.info.isreg():
            self._copy(entry, path)
        else:
            self._link_hard(entry.info, path)

    def _copy(self, entry: Entry, path: Path) -> None:
        with decoding(self.archive):
            source = entry.open()
        written = 0
        with source, path.open("xb") as file:
            while True:
                with decoding(self.archive):
                    chunk = source.read(CHUNK)
                if not chunk:
                    break
                written += file.write(chunk)
        if written != entry.info.size:
            why = f"holds {written:,} of its {entry.info.size:,} bytes"
            raise refused(self.archive, entry.info, why)

    def _link_hard(self, info: tarfile.TarInfo, path: Path) -> None:
        other = self.root / posixpath.normpath(info.linkname)
        if not other.is_file():
            why = f"is a link to {encode_name(info.linkname)!r}, which did not come before it"
            raise refused(self.archive, info, why)
        path.hardlink_to(other)

    def _link(self, links: list[tarfile.TarInfo]) -> None:
        """Make the symbolic links, now that nothing else is written, and see where they lead.

        The deepest come first: what lies behind another link gets a real folder there, with
        which that link then clashes. So no link is made through a link either.
        """
        for info in sorted(links, key=lambda info: -info.name.count("/")):
            path = self.root / info.name
            with self.to_disk(info):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(info.linkname)
        for info in links:
            self._check_link(info)

    def _check_link(self, info: tarfile.TarInfo) -> None:
        path = self.root / info.name
        try:
            end = os.path.realpath(path, strict=True)
        except OSError:
            name = encode_name(info.name)
            logger.warning("%s: the link %r leads nowhere; left out", self.archive, name)
            path.unlink()
            return
        inside = os.path.realpath(self.root)
        if os.path.commonpath([end, inside]) != inside:
            raise refused(self.archive, info, LEADS_OUT)

    @contextlib.contextmanager
    def to_disk(self, info: tarfile.TarInfo | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if info and error.errno in _NAME_FAULTS:
                why = f"cannot be made ({error.strerror})"
                raise refused(self.archive, info, why) from error
            raise StorageError(
                f"{self.root.parent}: unpacking {self.archive} stopped ({error.strerror}); "
                "free some space, or name another place"
            ) from error
