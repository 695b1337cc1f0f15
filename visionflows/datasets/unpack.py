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
import stat
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from visionflows.datasets.archive_entries import LEADS_OUT, Entries, Entry, archive_errors
from visionflows.datasets.folder_layout import nfc
from visionflows.errors import StorageError, one_line
from visionflows.storage.name_encoding import encode_name

_NAME_ERRORS = errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT
_UNUSABLE_NAME = errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ  # on this disk; left out

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
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # by the reason
    names: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # of files, by their names without case

    def write(self) -> None:
        with self.disk_errors():
            self.root.mkdir(parents=True)
            ignores_case = _ignores_case(self.root)
        links = []
        for entry in self.entries:
            if entry.info.issym():
                links.append(entry.info)
            elif ignores_case and self._is_taken(entry.info):
                self._leave_out(entry.info, "this disk does not tell its name from another one's")
            else:
                self._try(self._write_one, entry, entry.info)
        self._write_links(links)
        for reason, left_out in self.left_out.items():
            logger.warning(
                "%s: left out, as %s: %d, such as %r",
                *(self.entries.text, reason, len(left_out), left_out[0]),
            )

    def _is_taken(self, info: tarfile.TarInfo) -> bool:
        """Whether a file of another name is the same file here; the same name replaces it."""
        name = info.name
        return not info.isdir() and self.names.setdefault(nfc(name).casefold(), name) != name

    def _try(self, write: Callable[[Any], object], what: Any, info: tarfile.TarInfo) -> bool:
        """Whether an entry could be written; one whose name this disk cannot hold is left out."""
        with self.disk_errors(info):
            try:
                write(what)
            except OSError as error:
                if error.errno not in _UNUSABLE_NAME:
                    raise
                self._leave_out(info, f"it cannot have its name on this disk ({error.strerror})")
                return False
        return True

    def _leave_out(self, info: tarfile.TarInfo, reason: str) -> None:
        self.left_out.setdefault(reason, []).append(one_line(encode_name(info.name)))
        if info.isreg():
            self.entries.files -= 1
            self.entries.bytes -= info.size

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
        made = [
            info
            for info in sorted(links, key=lambda info: -info.name.count("/"))
            if self._try(self._write_link, info, info)
        ]
        for info in made:
            self._check_link(info)

    def _write_link(self, info: tarfile.TarInfo) -> None:
        path = self.root / info.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(info.linkname)

    def _check_link(self, info: tarfile.TarInfo) -> None:
        """Leave out a link to nothing. Raises ArchiveError for one that leads out, or to a folder.

        Folders that link to each other multiply: 80 links of two a level are 2^41 paths.
        """
        path = self.root / info.name
        try:
            status = path.stat()  # follows 40 links at most
            end = os.path.realpath(path, strict=True)
        except OSError:
            self._leave_out(info, "the link leads nowhere")
            path.unlink()
            return
        if not Path(end).is_relative_to(os.path.realpath(self.root)):
            raise self.entries.error(info, LEADS_OUT)
        if stat.S_ISDIR(status.st_mode):
            raise self.entries.error(info, "is a link to a folder")

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


def _ignores_case(folder: Path) -> bool:
    """Whether a folder's disk takes `A` for `a`, as on macOS and Windows. Raises OSError."""
    probe = folder / ".visionflows-case"
    probe.touch()
    try:
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink()
