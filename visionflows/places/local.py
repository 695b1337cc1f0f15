"""A folder on this machine as a place.

from visionflows.places.local import LocalPlace
LocalPlace(Path("inbox")).read("1.jpg")
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
from typing import BinaryIO

from visionflows.errors import LockedError, PlaceError
from visionflows.places.base import Entry
from visionflows.places.walk import walk

# Errors of writing a file's content; any other in the block that fills it is the caller's own.
_WRITE_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


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

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of a file, fewer if it has fewer. Raises OSError."""
        with open(os.path.join(self.root, name), "rb") as file:
            return file.read(size)

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
