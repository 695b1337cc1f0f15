"""The files below a folder on this machine, sorted by the text of their whole names.

from visionflows.storage.walk import walk
for entry in walk("inbox", "", lambda name: name.endswith(".jpg"), Passed()):
    print(entry.name, entry.size)
"""

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator

from visionflows.errors import StorageError
from visionflows.storage.base import MISSING, Entry, SkippedFiles, hidden_kind
from visionflows.storage.name_encoding import encode_name

log = logging.getLogger("visionflows.storage")

# What a folder says that is closed to this user; any other error is the disk's or the share's.
_CLOSED = (errno.EACCES, errno.EPERM)


def walk(
    folder: str,
    prefix: str,
    keep: Callable[[str], bool],
    skipped: SkippedFiles,
    above: tuple[tuple[int, int], ...] = (),
) -> Iterator[Entry]:
    """The files that `keep` keeps; `passed` is told of what is passed over.

    `above` are the folders on the way, which no link leads back to. A folder below that is closed
    to us is passed over; any other that cannot be listed is a PlaceError.
    """
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        with os.scandir(folder) as entries:
            found = sorted(_kept(entries, keep, skipped))
    except FileNotFoundError:
        return  # the folder vanished after its parent was listed: its files are gone
    except OSError as error:
        if prefix and error.errno in _CLOSED:
            skipped.closed[prefix.removesuffix("/")] = str(error.strerror)
            log.warning("%s: %s; what is in it is left out", encode_name(folder), error.strerror)
            return
        raise StorageError(
            f"{encode_name(folder)}: cannot be listed ({error.strerror}); give this user the right "
            "to read it, or move it out"
        ) from error
    for _, name, is_folder in found:
        if is_folder:
            yield from walk(f"{folder}/{name}", f"{prefix}{name}/", keep, skipped, (*above, here))
            continue
        try:
            status = os.stat(f"{folder}/{name}")
        except OSError:
            yield Entry(prefix + name, 0, MISSING)
            continue
        if stat.S_ISREG(status.st_mode):  # a link may lead to a device or a pipe, which never end
            yield Entry(prefix + name, status.st_size, version_of(status))


def version_of(status: os.stat_result) -> str:
    """What changes whenever a file does: its times, and which file has the name.

    The time of its content can be set to what it was (`cp -p`), that of its inode cannot.
    """
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def _kept(
    entries: Iterator[os.DirEntry[str]], keep: Callable[[str], bool], skipped: SkippedFiles
) -> Iterator[tuple[str, str, bool]]:
    """(sort key, name, is a folder); a folder sorts as its files' whole names do, by `name/`."""
    for entry in entries:
        name = entry.name
        if kind := hidden_kind(name):
            skipped.hidden[kind] += 1
            continue
        if _is_folder(entry):
            yield encode_name(name) + "/", name, True
        elif keep(name) and (entry.is_symlink() or entry.is_file()):
            yield encode_name(name), name, False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link that leads to itself, or to what is closed to us, leads to no folder.
        if error.errno != errno.ELOOP and error.errno not in _CLOSED:
            raise
        return False
