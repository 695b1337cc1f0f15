"""Places: folders that are read and written through one set of calls.

The one module that knows local paths from s3://. Everything else asks `place()` for a
`Place` and uses names relative to it:

    from tasks.storage import place
    for entry in place("inbox").walk():
        print(entry.name, entry.size)

A name is what the file system says, or what a key has after its prefix, with `/` between
folders; `tasks.names` turns it into text that fits into a CSV, and back.

What is copied to this machine lies in VISIONFLOWS_CACHE, by default ~/.cache/visionflows:
the datasets and the models of a store that is not on it. Nothing there is needed again.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from tasks.errors import LockedError, PlaceError, SettingsError
from tasks.names import name_of as name_of
from tasks.names import text_of as text_of
from tasks.walk import MISSING as MISSING
from tasks.walk import Entry, walk

# What counts as a picture, in any case. Pillow opens most of them; one that it cannot
# (HEIC without its plugin) still gets its row, which says so.
IMAGE_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("avif", "bmp", "dib", "gif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg"),
        *("jpg", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
# Errors of writing a file's content; any other in the block that fills it is the caller's own.
_WRITE_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class ReadFailed(OSError):
    """A file that could not be brought: its bytes did not come, or are not those listed."""


class Place(Protocol):
    """What a place can do, wherever it lies. A file that is not there is a FileNotFoundError."""

    def walk(self, keep: Callable[[str], bool] | None = None) -> Iterator[Entry]: ...
    def read(self, name: str) -> bytes: ...
    def read_many(self, entries: Iterable[Entry]) -> Iterator[bytes | OSError]: ...
    def open_read(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def write(self, name: str, data: bytes) -> None: ...
    def open_write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]: ...
    def exists(self, name: str = "") -> bool: ...
    def names(self, name: str = "") -> list[str]: ...
    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None: ...
    def remove(self, name: str) -> None: ...
    def rename(self, name: str, to: str) -> None: ...
    def sub(self, name: str) -> "Place": ...
    def check_readable(self, names: list[str]) -> None: ...
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
    if scheme == "s3":
        from tasks.s3 import S3Place

        return S3Place.named(text)
    raise SettingsError(f"{text}: {scheme}:// is not a place visionflows can use; name a folder")


def file_in(where: str) -> tuple[Place, str]:
    """The place that a file lies in, and its name there: of a path, or `s3://bucket/a/key`."""
    if is_local(where):
        folder, name = os.path.split(where.removeprefix("file://"))
        return place(folder or "."), name
    folder, _, name = where.rpartition("/")
    return place(f"{folder}/"), name  # with its slash, as a key may have two of them: a//b


def is_local(where: str | Path) -> bool:
    """Whether a place's name means a path on this machine."""
    return "://" not in os.fspath(where) or os.fspath(where).startswith("file://")


def cache() -> "LocalPlace":
    """Where copies of what lies elsewhere are kept on this machine."""
    folder = os.environ.get("VISIONFLOWS_CACHE") or "~/.cache/visionflows"
    return LocalPlace(Path(folder).expanduser().absolute())


def is_image_name(name: str) -> bool:
    """Whether a file name ends as a picture's does, in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


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
        yield from walk(os.fspath(self.root), "", keep or (lambda name: True))

    def read(self, name: str) -> bytes:
        """The whole content of a file. Raises OSError as the system does."""
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read()

    def read_many(self, entries: Iterable[Entry]) -> Iterator[bytes | OSError]:
        """The contents of files, in order; the system's error for one that cannot be read.

        Here each is read when it is asked for; where reading takes time, many are under way
        from the call on, and what is not as it was listed is a ReadFailed.
        """
        for entry in entries:
            try:
                yield self.read(entry.name)
            except OSError as error:
                yield error

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

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Write what `change` makes of a file's content (None: there is none), all at once.

        Nothing is written where `change` returns None. Two updates never lose one another.
        """
        with self.lock(f".{name.replace('/', '-')}.lock", wait=60):
            made = change(self.read(name) if self.exists(name) else None)
            if made is not None:
                self.write(name, made)

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

    def check_readable(self, names: list[str]) -> None:
        """Nothing: each file here has its own rights, and its row says what they are."""

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
