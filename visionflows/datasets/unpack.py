"""Unpack an untrusted archive into a new folder: completely, or not at all.

Chains of links have bypassed Python's own filter (CVE-2025-4138, -4330, -4517), so nothing is
written through a link: symbolic links are made last, and checked again once they exist.
"""

import contextlib
import ctypes
import dataclasses
import errno
import logging
import os
import posixpath
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from visionflows.datasets.archive_entries import LEADS_OUT, Entries, Entry, archive_errors
from visionflows.errors import StorageError
from visionflows.storage.name_encoding import encode_name

_NAME_ERRORS = (  # that a name causes on any disk
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ENOENT, errno.EINVAL),
)

logger = logging.getLogger("visionflows.archive")


def unpack(archive: str | Path, target: str | Path, text: str = "") -> tuple[int, int]:
    """The number of regular files unpacked into the new folder `target`, and their bytes.

    Modes, owners and times are the current user's. A link to nothing is left out with a warning.
    Errors call the archive `text`, by default its path. Raises ArchiveError, naming archive and
    entry, for broken archives, entries that lead out or are no file, folder or link, and limits;
    StorageError for disk errors. Nothing is left after an error. One caller at a time for a target.
    """
    target = Path(target)
    if target.exists():
        raise StorageError(f"{target}: is there already; name a new folder")
    staging = target.with_name(f".unpacking-{target.name}")
    shutil.rmtree(staging, ignore_errors=True)  # left by a killed run
    entries = Entries(archive, staging, text)
    writer = _Writer(entries, staging)
    try:
        writer.write()
        with writer.disk_errors():
            sync_disk(staging)
            staging.rename(target)
            sync_disk(target.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return entries.files, entries.bytes


def sync_disk(folder: Path) -> None:
    """Flush all that was written to the disk of a folder. Raises OSError.

    One call for the whole disk: for 7,400 photos syncfs took half a second, fsync of each 30.
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


@dataclasses.dataclass(frozen=True)
class _Writer:
    entries: Entries
    root: Path

    def write(self) -> None:
        with self.disk_errors():
            self.root.mkdir(parents=True)
        links = []
        for entry in self.entries:
            if entry.info.issym():
                links.append(entry.info)
                continue
            with self.disk_errors(entry.info):
                self._write_one(entry)
        self._write_links(links)

    def _write_one(self, entry: Entry) -> None:
        path = self.root / entry.info.name
        if entry.info.isdir():
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of two entries with one name the later one counts
        if entry.info.isreg():
            self._write_file(entry, path)
        else:
            self._write_hard_link(entry.info, path)

    def _write_file(self, entry: Entry, path: Path) -> None:
        with archive_errors(self.entries.text):
            source = entry.open()
        read = archive_errors(self.entries.text)(partial(source.read, 1 << 20))
        with source, path.open("xb") as file:
            written = sum(map(file.write, iter(read, b"")))
        if written != entry.info.size:
            reason = f"holds {written:,} of its {entry.info.size:,} bytes"
            raise self.entries.error(entry.info, reason)

    def _write_hard_link(self, info: tarfile.TarInfo, path: Path) -> None:
        other = self.root / posixpath.normpath(info.linkname)
        if not other.is_file():
            reason = f"is a link to {encode_name(info.linkname)!r}, which did not come before it"
            raise self.entries.error(info, reason)
        path.hardlink_to(other)

    def _write_links(self, links: list[tarfile.TarInfo]) -> None:
        """Make the symbolic links, then check their targets.

        The deepest come first: a path below another link gets a real folder there, which that link
        then collides with. So no link is made through a link.
        """
        for info in sorted(links, key=lambda info: -info.name.count("/")):
            path = self.root / info.name
            with self.disk_errors(info):
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
            logger.warning("%s: the link %r leads nowhere; left out", self.entries.text, name)
            path.unlink()
            return
        if not Path(end).is_relative_to(os.path.realpath(self.root)):
            raise self.entries.error(info, LEADS_OUT)

    @contextlib.contextmanager
    def disk_errors(self, info: tarfile.TarInfo | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if info and error.errno in _NAME_ERRORS:
                reason = f"cannot be made ({error.strerror})"
                raise self.entries.error(info, reason) from error
            raise StorageError(
                f"{self.root.parent}: unpacking {self.entries.text} stopped ({error.strerror}); "
                "free some space, or choose another disk"
            ) from error
