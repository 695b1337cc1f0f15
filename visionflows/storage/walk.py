"""The files below a local folder, sorted by the encoded text of their whole names."""

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator

from visionflows.errors import StorageError
from visionflows.storage.base import MISSING, Entry, SkippedFiles, hidden_kind
from visionflows.storage.name_encoding import encode_name

log = logging.getLogger("visionflows.storage")

# Errors of a folder that this user may not read; any other is the disk's or the share's.
_NO_PERMISSION = (errno.EACCES, errno.EPERM)


def walk(
    folder: str,
    prefix: str,
    keep: Callable[[str], bool],
    skipped: SkippedFiles,
    ancestors: tuple[tuple[int, int], ...] = (),
) -> Iterator[Entry]:
    """The files that `keep` keeps; see LocalStorage.walk.

    `ancestors` are the folders above, by device and inode; no link back to one is followed.
    """
    try:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return
        with os.scandir(folder) as entries:
            found = sorted(_visible(entries, keep, skipped))
    except FileNotFoundError:
        return  # the folder vanished after its parent was listed, with its files
    except OSError as error:
        if prefix and error.errno in _NO_PERMISSION:
            skipped.denied[prefix.removesuffix("/")] = str(error.strerror)
            log.warning("%s: %s; its files are skipped", encode_name(folder), error.strerror)
            return
        raise StorageError(
            f"{encode_name(folder)}: cannot be listed ({error.strerror}); give this user the right "
            "to read it, or move it out"
        ) from error
    for _, name, is_folder in found:
        path = f"{folder}/{name}"
        if is_folder:
            yield from walk(path, f"{prefix}{name}/", keep, skipped, (*ancestors, identity))
            continue
        try:
            status = os.stat(path)
        except OSError:
            yield Entry(prefix + name, 0, MISSING)
            continue
        if stat.S_ISREG(status.st_mode):  # a link may lead to a device or a pipe
            yield Entry(prefix + name, status.st_size, version_of(status))


def version_of(status: os.stat_result) -> str:
    """The times and inode of a file, which change with its content.

    `cp -p` restores the time of the content, but not that of the inode.
    """
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def _visible(
    entries: Iterator[os.DirEntry[str]], keep: Callable[[str], bool], skipped: SkippedFiles
) -> Iterator[tuple[str, str, bool]]:
    """(sort key, name, is a folder); a folder sorts by `name/`, as the names of its files do."""
    for entry in entries:
        name = entry.name
        if kind := hidden_kind(name):
            skipped.hidden[kind] += 1
        elif _is_folder(entry):
            yield encode_name(name) + "/", name, True
        elif keep(name) and (entry.is_symlink() or entry.is_file()):
            yield encode_name(name), name, False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link to itself, or to what this user may not read, is no folder.
        if error.errno != errno.ELOOP and error.errno not in _NO_PERMISSION:
            raise
        return False
