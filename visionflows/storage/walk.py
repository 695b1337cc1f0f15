"""The files below a local folder, sorted by the encoded text of their whole names."""

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from visionflows.errors import StorageError
from visionflows.storage.base import MISSING, Entry, SkippedFiles
from visionflows.storage.name_encoding import encode_name
from visionflows.storage.skipped_names import OWN, hidden_kind, transfer_kind

log = logging.getLogger("visionflows.storage")

NOT_A_FILE, TOO_LONG = "pipes and devices", "with a path of over 4,095 bytes"
LINK, SEEN = "links (--no-follow-links)", "links to folders that are listed elsewhere"
_NO_PERMISSION = (errno.EACCES, errno.EPERM)
_GONE = (errno.ENOENT, errno.ENOTDIR)
_BROKEN_LINK = (*_GONE, errno.ELOOP, errno.ENAMETOOLONG)
_PAUSES = (0.5, 1, 2, 4)  # seconds before a folder is listed again; of a walk, not of each folder


class _Found(NamedTuple):
    """A name in a folder; `is_linked` says whether a link leads to it."""

    key: str  # a folder sorts by `name/`, as the names of its files do
    name: str
    is_folder: bool
    is_link: bool
    is_linked: bool


class Walk:
    """A walk over a folder; see LocalStorage.walk. `own` are the names of folders to leave out.

    Only what a link leads to can be met twice, so only those folders are remembered.
    """

    def __init__(
        self, root: str, keep: Callable[[str], bool], skipped: SkippedFiles, own: set[str]
    ):
        self.root, self.real_root = root, os.path.realpath(root)
        self.keep, self.skipped, self.own = keep, skipped, own
        paths = [path for one in skipped.own if (path := one.path())]
        self.own_identities = {identity(str(path)) for path in paths} - {None}
        self.seen: set[tuple[int, int] | None] = set()
        self.pauses = iter(_PAUSES)

    def entries(self) -> Iterator[Entry]:
        """The files, and each folder that cannot be listed if `skipped` keeps a record of them."""
        pending = [iter(self._list(_Found("", "", True, False, False)) or ())]
        while pending:
            for found in pending[-1]:
                if not found.is_folder:
                    if entry := self._file(found.name):
                        yield entry
                elif reason := self._why_skipped(found):
                    self.skipped.counts[reason] += 1
                elif (inside := self._list(found)) is None:
                    yield Entry(f"{found.name}/", 0, "")  # sorts as the names in it do
                else:
                    pending.append(iter(inside))
                    break
            else:
                pending.pop()

    def _file(self, name: str) -> Entry | None:
        try:
            status = os.stat(f"{self.root}/{name}")
        except OSError as error:
            if len(os.fsencode(f"{self.root}/{name}")) > 4095:
                self.skipped.counts[TOO_LONG] += 1
                return None
            # Any other error is reported in the file's row when it is read.
            return Entry(name, 0, MISSING if error.errno in _BROKEN_LINK else "")
        if not stat.S_ISREG(status.st_mode):
            self.skipped.counts[NOT_A_FILE] += 1
            return None
        if self.skipped.min_age and self.skipped.count_if_young(status.st_mtime):
            return None
        return Entry(name, status.st_size, version_of(status))

    def _why_skipped(self, found: _Found) -> str:
        """Why a folder is not listed here: it is an own one, or listed elsewhere; else empty."""
        if not found.is_linked:
            return OWN if found.name in self.own else ""
        path = f"{self.root}/{found.name}"
        if found.is_link and self._is_listed_elsewhere(os.path.realpath(path)):
            return SEEN
        here = identity(path)
        if here in self.own_identities:
            return OWN
        if here in self.seen:
            return SEEN
        self.seen |= {here} - {None}  # what cannot be looked up is reported when it is listed
        return ""

    def _is_listed_elsewhere(self, target: str) -> bool:
        """Whether a link's target is a folder above the root, or one that is listed by itself."""
        if f"{self.real_root}/".startswith(target.rstrip("/") + "/"):
            return True
        inside = target.removeprefix(f"{self.real_root}/")
        is_own = any(f"{inside}/".startswith(f"{name}/") for name in self.own)
        return not (inside == target or is_own or any(map(hidden_kind, inside.split("/"))))

    def _list(self, folder: _Found) -> list[_Found] | None:
        """What is in a folder, sorted; None if its failure is recorded. Raises StorageError."""
        path = f"{self.root}/{folder.name}" if folder.name else self.root
        while True:
            try:
                with os.scandir(path) as entries:
                    found = [*entries]
                return sorted(self._visible(found, folder))
            except OSError as error:
                if error.errno in _GONE:
                    return []  # it vanished after its parent was listed, with its files
                if error.errno == errno.ENAMETOOLONG:
                    self.skipped.counts[TOO_LONG] += 1
                    return []
                if error.errno in _NO_PERMISSION and folder.name:
                    self.skipped.denied[folder.name] = str(error.strerror)
                    log.warning("%s: %s; its files are skipped", path, error.strerror)
                    return []
                pause = None if error.errno in _NO_PERMISSION else next(self.pauses, None)
                if pause is None:
                    self._record_failure(path, folder.name, error)
                    return None
            time.sleep(pause)

    def _record_failure(self, path: str, name: str, error: OSError) -> None:
        """Record that a folder cannot be listed. Raises StorageError if no record is kept."""
        denied = error.errno in _NO_PERMISSION
        todo = "give this user the right to read it" if denied else "check its disk or share"
        line = f"{encode_name(path)}: cannot be listed ({error.strerror}); {todo}"
        if not name or self.skipped.unlisted is None:
            raise StorageError(line) from error
        self.skipped.unlisted[name] = str(error.strerror)
        log.warning("%s: its files are not scored", line)

    def _visible(self, entries: list[os.DirEntry[str]], folder: _Found) -> Iterator[_Found]:
        below = f"{folder.name}/" if folder.name else ""
        for entry in entries:
            name, is_link, is_folder = entry.name, entry.is_symlink(), _is_folder(entry)
            kind = hidden_kind(name) or ("" if is_folder else transfer_kind(name))
            if not kind and is_link and not self.skipped.follow_links:
                kind = LINK
            if kind:
                self.skipped.counts[kind] += 1
            elif is_folder:
                is_linked = is_link or folder.is_linked
                yield _Found(encode_name(name) + "/", below + name, True, is_link, is_linked)
            elif self.keep(name):
                yield _Found(encode_name(name), below + name, False, is_link, False)


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode; None for what cannot be looked up."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def version_of(status: os.stat_result) -> str:
    """The times and inode of a file, which change with its content.

    `cp -p` restores the time of the content, but not that of the inode.
    """
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed, or a file that cannot be looked up: a row
        return False
