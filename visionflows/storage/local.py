"""A folder on this machine as a place.

from visionflows.storage.local import LocalPlace
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

from visionflows.bounded_read import read_bounded
from visionflows.errors import LockedError, StorageError
from visionflows.storage.base import (
    Entry,
    SkippedFiles,
    Storage,
    invalid_name_reason,
    validate_name,
)
from visionflows.storage.walk import version_of, walk

# Errors of writing a file's content; any other in the block that fills it is the caller's own.
_WRITE_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# What file systems say that lack a call: locks without a lockd, or Lustre's without `-o flock`.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_NO_SUCH_CALL = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)

TEMPORARY = ".writing-"  # what a file is called until it is whole
_held: set[int] = set()  # the descriptors of this process's locks
_temporaries: set[Path] = set()  # what this process is writing


class LocalStorage:
    """A folder on this machine."""

    is_local = True

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    def path(self, name: str = "") -> Path:
        """Where a name lies on this machine; without one, the place itself. Raises PlaceError."""
        return self.root / validate_name(name) if name else self.root

    def local_path(self, name: str = "") -> Path:
        """The path of a file or of the folder itself; None where it is not on this machine."""
        return self.path(name)

    def absolute(self) -> str:
        """The location as text that means the same from any working directory."""
        return os.path.abspath(self.root)

    def name_inside(self, other: Storage) -> str | None:
        """The name that another location has in this one; None where it is not inside."""
        path = other.local_path()
        root, inside = self.root.resolve(), path.resolve() if path else None
        if inside is None or inside == root or not inside.is_relative_to(root):
            return None
        return inside.relative_to(root).as_posix()

    def invalid_name_reason(self, name: str) -> str | None:
        """Why a name cannot be a file here; None where it can."""
        return invalid_name_reason(name)

    def sub(self, name: str) -> "LocalStorage":
        """The place of a folder in this one."""
        return LocalStorage(self.path(name))

    def walk(
        self,
        keep: Callable[[str], bool] | None = None,
        skipped: SkippedFiles | None = None,
    ) -> Iterator[Entry]:
        """Every file below, hidden ones left out, sorted by the text of its whole name.

        Only one folder's names are in memory at a time. `keep` chooses by the file's own
        name; `passed` is told what is passed over. A link that leads back to a folder above
        itself is not followed; one that leads nowhere comes with the version `missing`. A folder
        below that is closed to us is passed over with a warning. Raises PlaceError where this
        one is, or where one cannot be listed for another reason, such as a share that is gone:
        a listing that leaves files out unsaid cannot be trusted.
        """
        if not os.path.isdir(self.root):
            what = "is a file, not a folder" if os.path.exists(self.root) else "no such folder"
            raise StorageError(f"{self.root}: {what}; name the folder that holds the images")
        yield from walk(
            os.fspath(self.root), "", keep or (lambda name: True), skipped or SkippedFiles()
        )

    def entry(self, name: str) -> Entry:
        """What a walk says of one file. Raises as read does."""
        status = os.stat(os.path.join(self.root, validate_name(name)))
        return Entry(name, status.st_size, version_of(status))

    def read(self, name: str) -> bytes:
        """The whole content of a file. Raises OSError as the system does, and PlaceError."""
        with open(os.path.join(self.root, validate_name(name)), "rb") as file:
            return file.read()

    def head(self, name: str, size: int) -> bytes:
        """The first `size` bytes of a file, fewer if it has fewer. Raises as read does."""
        with open(os.path.join(self.root, validate_name(name)), "rb") as file:
            return file.read(size)

    def read_many(
        self, entries: Iterable[Entry], most: int | None = None
    ) -> Iterator[bytes | OSError]:
        """The contents of files, in order; the system's error for one that cannot be read.

        Here each is read when it is asked for; where reading takes time, many are under way
        from the call on, and what is not as it was listed is a ReadFailed. A file of more than
        `most` bytes is not read: it is a TooLarge.
        """
        for entry in entries:
            try:
                yield read_bounded(os.path.join(self.root, validate_name(entry.name)), most)
            except OSError as error:
                yield error
            except StorageError as error:  # no name that a file here could have
                yield OSError(errno.EINVAL, str(error))

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
        target = self.path(validate_name(name))
        temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
        _temporaries.add(temporary)
        try:  # before there is a file: a signal may arrive in the line after it
            with _storage_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                file = temporary.open("x+b")
            with _storage_errors(target, only=_WRITE_FAILED), file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            with _storage_errors(target):
                os.replace(temporary, target)
                _sync_folder(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # what went wrong is told, not this
                temporary.unlink()
            raise
        finally:
            _temporaries.discard(temporary)

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Write what `change` makes of a file's content (None: there is none), all at once.

        Nothing is written where `change` returns None. Two updates never lose one another.
        """
        with self.lock(f".{validate_name(name).replace('/', '-')}.lock", wait=60):
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

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing was written into it."""
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def rename(self, name: str, to: str) -> None:
        """Give a file or a folder another name in this place; what had that name is gone."""
        self.remove(validate_name(to))
        self.path(to).parent.mkdir(parents=True, exist_ok=True)
        self.path(validate_name(name)).rename(self.path(to))

    def check_readable(self, names: list[str]) -> None:
        """Nothing: each file here has its own rights, and its row says what they are."""

    def check_writable(self) -> None:
        """Make the folder if need be and write a probe. Raises PlaceError if that fails."""
        with _storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()

    def clear_temporary(self, folders: Iterable[str], ours: Callable[[str], object]) -> None:
        """Take away what writers that were killed left in folders that nobody else writes to.

        Here drafts have names of their own. In a bucket they are uploads under the name that the
        file was to have, and others may have some there: `ours` says which names we write.
        """
        for folder in folders:
            for temporary in self.path(folder).glob(f"{TEMPORARY}*"):
                temporary.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Bytes free on the disk that holds this place, or will hold it."""
        folder = self.root.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    @contextlib.contextmanager
    def lock(self, name: str, wait: float = 0.0) -> Iterator[None]:
        """Hold `name` alone for the block; `wait` is how many seconds to stand in line.

        The kernel drops the lock when its process dies, however it dies. Afterwards its file is
        gone. Raises LockedError, and PlaceError where the lock's file cannot be made.
        """
        path, deadline = self.path(validate_name(name)), time.monotonic() + wait
        while (descriptor := _locked(path)) is None:
            if time.monotonic() >= deadline:
                raise LockedError(f"{self.root}: another run is writing here; wait for it to end")
            time.sleep(0.2)
        try:
            yield
        finally:
            if descriptor in _held:  # else this is a fork, and the lock is its parent's
                with contextlib.suppress(OSError):
                    path.unlink()
                _held.discard(descriptor)
                os.close(descriptor)


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock of a file; None where another holds it, or just took it."""
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    _held.add(descriptor)
    taken = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        pass  # held, or let go and taken away between the two calls
    except OSError as error:
        raise StorageError(_write_line(path, error)) from error
    finally:
        if not taken:
            _held.discard(descriptor)
            os.close(descriptor)
    return descriptor if taken else None


def _let_go() -> None:
    """In a process that was forked: locks and drafts are its parent's, and end with that one."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
    _temporaries.clear()


os.register_at_fork(after_in_child=_let_go)


def drop_temporary() -> None:
    """Take away what threads are writing, in a process that ends without waiting for them."""
    for temporary in list(_temporaries):
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut: the folder's own entry must reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:  # some shares sync files and no folders
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _storage_errors(path: Path, only: tuple[int, ...] = ()) -> Iterator[None]:
    """Tell the system's errors (or only some of them) as PlaceErrors about `path`."""
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        raise StorageError(_write_line(path, error)) from error


def _write_line(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}: no space left on its disk; free some, or name another place"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: this user may not write there; name a place that it may write"
    if error.errno in _NO_LOCKS:
        why = f"its file system has no locks ({error.strerror})"
        return f"{path}: {why}; mount it with flock, or name another place"
    return f"{path}: cannot be written ({error.strerror}); name another place"
