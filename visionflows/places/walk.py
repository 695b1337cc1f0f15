"""The files below a folder on this machine, sorted by the text of their whole names.

from visionflows.places.walk import walk
for entry in walk("inbox", "", lambda name: name.endswith(".jpg")):
    print(entry.name, entry.size)
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator

from visionflows.errors import PlaceError
from visionflows.places.base import MISSING, Entry, is_hidden
from visionflows.places.names import text_of


def walk(
    folder: str, prefix: str, keep: Callable[[str], bool], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[Entry]:
    """The files that `keep` keeps; `above` are the folders on the way, which no link leads back to.

    Raises PlaceError where a folder cannot be listed.
    """
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        with os.scandir(folder) as entries:
            found = sorted(_kept(entries, keep))
    except FileNotFoundError:
        return  # the folder vanished after its parent was listed: its files are gone
    except OSError as error:
        raise PlaceError(
            f"{text_of(folder)}: cannot be listed ({error.strerror}); give this user the right "
            "to read it, or move it out"
        ) from error
    for _, name, is_folder in found:
        if is_folder:
            yield from walk(f"{folder}/{name}", f"{prefix}{name}/", keep, (*above, here))
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
    entries: Iterator[os.DirEntry[str]], keep: Callable[[str], bool]
) -> Iterator[tuple[str, str, bool]]:
    """(sort key, name, is a folder); a folder sorts as its files' whole names do, by `name/`."""
    for entry in entries:
        name = entry.name
        if is_hidden(name):
            continue
        if _is_folder(entry):
            yield text_of(name) + "/", name, True
        elif keep(name) and (entry.is_symlink() or entry.is_file()):
            yield text_of(name), name, False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link that leads to itself
            raise
        return False
