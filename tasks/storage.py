"""Places: folders that are read and written through one set of calls.

The one module that knows local paths from s3://. Everything else asks `place()` for a
`Place` and uses names relative to it:

    from tasks.storage import place
    for entry in place("inbox").walk():
        print(entry.name, entry.size)

A name is what the file system says, with `/` between folders. A name that is not UTF-8 is
held as Python holds it (surrogates); `text_of` and `name_of` turn it into text that fits
into a CSV, and back.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from tasks.errors import LockedError, PlaceError, SettingsError

# What counts as a picture, in any case. Pillow opens most of them; one that it cannot
# (HEIC without its plugin) still gets its row, which says so.
IMAGE_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("avif", "bmp", "dib", "gif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg"),
        *("jpg", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
MISSING = "missing"  # the version of an entry that was gone before its size could be read
# Errors of writing a file's content; any other in the block that fills it is the caller's own.
_WRITE_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_ESCAPED = re.compile(r"\\x[0-9a-f]{2}")


class Entry(NamedTuple):
    """A file in a place: its name there, its size in bytes, and a mark that changes with it."""

    name: str
    size: int
    version: str


class Place(Protocol):
    """What a place can do, wherever it lies."""

    def walk(self, keep: Callable[[str], bool] | None = None) -> Iterator[Entry]: ...
    def read(self, name: str) -> bytes: ...
    def open_read(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def write(self, name: str, data: bytes) -> None: ...
    def open_write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def exists(self, name: str = "") -> bool: ...
    def names(self, name: str = "") -> list[str]: ...
    def remove(self, name: str) -> None: ...
    def rename(self, name: str, to: str) -> None: ...
    def sub(self, name: str) -> "Place": ...
    def check_writable(self) -> None: ...
    def free_bytes(self) -> int | None: ...
    def lock(self, name: str, wait: float = 0.0) -> contextlib.AbstractContextManager[None]: ...


def place(where: str | Path) -> Place:
    """The place a person named: a local path (`~` allowed) or `s3://bucket/prefix`.

    Raises SettingsError for an empty name and for a scheme that is not known.
    """
    text = os.fspath(where)
    if not text:
        raise SettingsError("an empty place: name a folder, such as ./inbox")
    scheme, separator, _ = text.partition("://")
    if not separator or scheme == "file":
        return LocalPlace(Path(text.removeprefix("file://")).expanduser())
    raise SettingsError(f"{text}: {scheme}:// is not a place visionflows can use; name a folder")


def is_local(where: str | Path) -> bool:
    """Whether a place's name means a path on this machine."""
    return "://" not in os.fspath(where) or os.fspath(where).startswith("file://")


def is_image_name(name: str) -> bool:
    """Whether a file name ends as a picture's does, in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def text_of(name: str) -> str:
    r"""A file name as text that UTF-8 can hold, different for different names.

    Most names come back as they are. In a part between slashes that has bytes which are not
    UTF-8, those bytes become `\xNN` and backslashes double; so they do in a part that itself
    contains a literal `\xNN`, so that the two can never be taken for each other.
    """
    if name.isascii() and "\\x" not in name:
        return name
    return "/".join(_part_text(part) for part in name.split("/"))


def _part_text(part: str) -> str:
    try:
        part.encode()
    except UnicodeEncodeError:
        pass
    else:
        if not _ESCAPED.search(part):
            return part
    doubled = part.replace("\\", "\\\\")
    return "".join(
        f"\\x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else char for char in doubled
    )


def name_of(text: str) -> str:
    """The file name that `text_of` wrote."""
    if "\\x" not in text:
        return text
    return "/".join(_part_name(part) for part in text.split("/"))


def _part_name(part: str) -> str:
    if not _ESCAPED.search(part):
        return part
    return re.sub(
        r"\\\\|\\x([0-9a-f]{2})",
        lambda match: chr(0xDC00 + int(match[1], 16)) if match[1] else "\\",
        part,
    )


class LocalPlace:
    """A folder on this machine."""

    def __init__(self, root: Path):
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def path(self, name: str = "") -> Path:
        """Where a name lies on this machine."""
        return self.root / name if name else self.root

    def sub(self, name: str) -> "LocalPlace":
        """The place of a folder in this one."""
        return LocalPlace(self.root / name)

    def walk(self, keep: Callable[[str], bool] | None = None) -> Iterator[Entry]:
        """Every file below, hidden ones left out, sorted by the text of its whole name.

        Only one folder's names are in memory at a time. `keep` chooses by the file's own
        name. A link that leads back to a folder above itself is not followed; one that leads
        nowhere comes with the version `missing`. Raises PlaceError where a folder cannot be
        listed: a listing that leaves files out unsaid cannot be trusted.
        """
        if not os.path.isdir(self.root):
            what = "is a file, not a folder" if os.path.exists(self.root) else "no such folder"
            raise PlaceError(f"{self.root}: {what}; name the folder that holds the images")
        yield from _walk(os.fspath(self.root), "", keep or (lambda name: True), ())

    def read(self, name: str) -> bytes:
        """The whole content of a file. Raises OSError as the system does."""
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read()

    def open_read(self, name: str) -> BinaryIO:
        """The file, open for reading bytes."""
        return self.path(name).open("rb")

    def write(self, name: str, data: bytes) -> None:
        """Put `data` under `name`, whole or not at all."""
        with self.open_write(name) as file:
            file.write(data)

    @contextlib.contextmanager
    def open_write(self, name: str) -> Iterator[BinaryIO]:
        """A file to fill; it appears under `name` when the block ends well, else not at all."""
        target = self.path(name)
        draft = target.with_name(f".writing-{secrets.token_hex(8)}")
        with _place_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = draft.open("x+b")
        try:
            with _place_errors(target, only=_WRITE_FAILED), file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            with _place_errors(target):
                os.replace(draft, target)
                _sync_folder(target.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name."""
        return self.path(name).exists()

    def names(self, name: str = "") -> list[str]:
        """The names directly inside a folder, sorted; none where there is no such folder."""
        folder = self.path(name)
        if not folder.is_dir():
            return []
        return sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))

    def remove(self, name: str) -> None:
        """Take a file or a whole folder away; nothing happens where there is none."""
        target = self.path(name)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def rename(self, name: str, to: str) -> None:
        """Give a file or a folder another name in this place; what had that name is gone."""
        self.remove(to)
        self.path(to).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).rename(self.path(to))

    def check_writable(self) -> None:
        """Make the folder if need be and write a probe. Raises PlaceError if that fails."""
        with _place_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()

    def free_bytes(self) -> int:
        """Bytes free on the disk that holds this place, or will hold it."""
        folder = self.root.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    @contextlib.contextmanager
    def lock(self, name: str, wait: float = 0.0) -> Iterator[None]:
        """Hold `name` alone for the block; `wait` is how many seconds to stand in line.

        The kernel drops the lock when its process dies, however it dies. Raises LockedError,
        and PlaceError where the lock's file cannot be made.
        """
        path = self.path(name)
        with _place_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        with file:
            deadline = time.monotonic() + wait
            while not _try_lock(file.fileno()):
                if time.monotonic() >= deadline:
                    raise LockedError(
                        f"{self.root}: another run is writing here; wait for it to end"
                    )
                time.sleep(0.2)
            yield


def _walk(
    folder: str, prefix: str, keep: Callable[[str], bool], above: tuple[tuple[int, int], ...]
) -> Iterator[Entry]:
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
            yield from _walk(f"{folder}/{name}", f"{prefix}{name}/", keep, (*above, here))
            continue
        try:
            status = os.stat(f"{folder}/{name}")
        except OSError:
            yield Entry(prefix + name, 0, MISSING)
            continue
        if stat.S_ISREG(status.st_mode):  # a link may lead to a device or a pipe, which never end
            yield Entry(prefix + name, status.st_size, str(status.st_mtime_ns))


def _kept(
    entries: Iterator[os.DirEntry], keep: Callable[[str], bool]
) -> Iterator[tuple[str, str, bool]]:
    """(sort key, name, is a folder); a folder sorts as its files' whole names do, by `name/`."""
    for entry in entries:
        name = entry.name
        if name.startswith(".") or name == "__MACOSX":
            continue
        if _is_folder(entry):
            yield text_of(name) + "/", name, True
        elif keep(name) and (entry.is_symlink() or entry.is_file()):
            yield text_of(name), name, False


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link that leads to itself
            raise
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut: the folder's own entry must reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _place_errors(path: Path, only: tuple[int, ...] = ()) -> Iterator[None]:
    """Tell the system's errors (or only some of them) as PlaceErrors about `path`."""
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        raise PlaceError(_write_line(path, error)) from error


def _write_line(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: no space left on its disk; free some, or name another place"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: this user may not write there; name a place that it may write"
    return f"{path}: cannot be written ({error.strerror}); name another place"
