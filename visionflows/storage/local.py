"""A folder on this machine as a storage location."""

import contextlib
import datetime
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from visionflows.bounded_read import open_regular, read_bounded
from visionflows.errors import StorageError
from visionflows.storage.base import Entry, Keep, SkippedFiles, Storage, validate_name
from visionflows.storage.file_lock import hold
from visionflows.storage.walk import Walk, version_of
from visionflows.storage.write_errors import storage_errors

# Errors of writing a file's content; any other error in the caller's block is the caller's own.
_WRITE_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_LOCKED = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY)  # of a share, by a program
_NO_SUCH_CALL = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)

TEMPORARY = ".writing-"  # prefix of a file that is not complete
_temporaries: set[Path] = set()  # files that this process is writing


class LocalStorage(Storage):
    """A folder on this machine."""

    is_local = True

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def __str__(self) -> str:
        return str(self.root)

    def path(self, name: str = "") -> Path:
        """The path of a file, or of the folder itself. Raises StorageError for an invalid name."""
        return self.root / validate_name(name) if name else self.root

    def absolute(self) -> str:
        return os.path.abspath(self.root)

    def name_inside(self, other: Storage) -> str | None:
        """The name that another location has in this one; None if it is not inside."""
        path = other.path()
        root, inside = self.root.resolve(), path.resolve() if path else None
        if inside is None or inside == root or not inside.is_relative_to(root):
            return None
        return inside.relative_to(root).as_posix()

    def sub(self, name: str) -> "LocalStorage":
        """The storage location of a folder in this one."""
        return LocalStorage(self.path(name))

    def walk(self, keep: Keep = None, skipped: SkippedFiles | None = None) -> Iterator[Entry]:
        """Every file below that is not hidden, sorted by the encoded text of its whole name.

        `keep` filters by the file's own name; `skipped` configures and counts what is skipped. Only
        one folder's names at each depth are in memory. Links to folders are followed, but a folder
        inside is listed only under its own name, and every other once. A link that cannot be
        followed has the version MISSING. Folders that this user may not read, and paths that are
        too long, are skipped. Raises StorageError if the location itself, or any folder for another
        reason, cannot be listed: a listing that silently lacks files cannot be trusted.
        """
        if not os.path.isdir(self.root):
            problem = "is a file, not a folder" if os.path.exists(self.root) else "no such folder"
            raise StorageError(f"{self.root}: {problem}; name the folder that holds the images")
        keep = keep or (lambda name: True)
        skipped = skipped or SkippedFiles()
        own = {name for one in skipped.own if (name := self.name_inside(one))}
        yield from Walk(os.fspath(self.root), keep, skipped, own).entries()

    def entry(self, name: str) -> Entry:
        """The entry of one file, as walk yields it. Raises OSError, and StorageError."""
        status = os.stat(self._entry_file(name))
        return Entry(name, status.st_size, version_of(status))

    def _entry_file(self, name: str) -> str:
        """The path of an entry; with a slash at its end a folder that could not be listed."""
        return os.path.join(self.root, validate_name(name.removesuffix("/")))

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OSError, and StorageError for an invalid name."""
        return read_bounded(self.path(validate_name(name)))

    def heads(self, names: Iterable[str], size: int) -> Iterator[bytes | OSError]:
        """The first `size` bytes of files, or fewer if they are shorter; as `read_many` does."""
        for name in names:
            try:
                with open_regular(self._entry_file(name)) as file:
                    yield file.read(size)
            except OSError as error:
                yield error

    def read_many(
        self, entries: Iterable[Entry], max_bytes: int | None = None
    ) -> Iterator[bytes | OSError]:
        """The contents of files, in order; an OSError for each that cannot be read.

        A file over `max_bytes` is a TooLarge and is not read; a remote file that changed since it
        was listed is a ReadFailed. Local files are read one by one, remote ones concurrently.
        """
        for entry in entries:
            try:
                yield read_bounded(self._entry_file(entry.name), max_bytes)
            except OSError as error:
                yield error
            except StorageError as error:  # an invalid name
                yield OSError(errno.EINVAL, str(error))

    def open_read(self, name: str) -> BinaryIO:
        """The file, open for reading bytes. Raises as read does."""
        return open_regular(self.path(validate_name(name)))

    @contextlib.contextmanager
    def open_write(self, name: str) -> Iterator[BinaryIO]:
        """A file to write; it appears as `name` if the block succeeds, else not at all."""
        target = self.path(validate_name(name))
        temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
        _temporaries.add(temporary)
        try:  # before the file exists: a signal may arrive right after it is created
            with storage_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                file = temporary.open("x+b")
            with storage_errors(target, only=_WRITE_FAILED), file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            with storage_errors(target):
                _replace(temporary, target)
                _sync_folder(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                temporary.unlink()
            raise
        finally:
            _temporaries.discard(temporary)

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace a file by `change(content)` atomically; no concurrent update is lost.

        The content is None if the file does not exist. Nothing is written if `change` returns None.
        """
        with self.lock(f".{validate_name(name).replace('/', '-')}.lock", wait=60):
            content = change(self.read(name) if self.exists(name) else None)
            if content is not None:
                self.write(name, content)

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name."""
        return self.path(name).exists()

    def names(self, name: str = "") -> list[str]:
        """The names directly inside a folder, sorted; none if there is no such folder."""
        folder = self.path(name)
        if not folder.is_dir():
            return []
        return sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))

    def last_modified(self, name: str) -> dict[str, datetime.datetime]:
        """When the files directly inside a folder were written, by name from here."""
        times = {}
        for entry in self.names(name):
            with contextlib.suppress(FileNotFoundError):  # a temporary file that is gone
                seconds = self.path(f"{name}/{entry}").stat().st_mtime
                times[f"{name}/{entry}"] = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        return times

    def remove(self, name: str) -> None:
        """Delete a file or a folder with its content, if it exists."""
        target = self.path(name)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def rename(self, name: str, to: str) -> None:
        """Rename a file or folder; one that has the new name is replaced."""
        self.remove(validate_name(to))
        self.path(to).parent.mkdir(parents=True, exist_ok=True)
        self.path(validate_name(name)).rename(self.path(to))

    def check_writable(self) -> None:
        """Create the folder and a temporary file in it. Raises StorageError if that fails."""
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()

    def clear_temporary(self, folders: Iterable[str], is_own: Callable[[str], object]) -> None:
        """Delete what killed writers left in folders that no one else writes to.

        In a bucket these are unfinished uploads; only those whose name `is_own` are aborted.
        """
        for folder in folders:
            for temporary in self.path(folder).glob(f"{TEMPORARY}*"):
                temporary.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        folder = self.root.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def lock(self, name: str, wait: float = 0.0) -> contextlib.AbstractContextManager[None]:
        """Hold an exclusive lock for the block; wait up to `wait` seconds for it.

        The kernel releases it when the process dies. The lock's file is deleted afterwards. Raises
        LockedError, and StorageError if the file cannot be created.
        """
        return hold(self.path(validate_name(name)), wait)


def _forget() -> None:
    """Forget temporary files in a forked child: they are its parent's."""
    _temporaries.clear()


os.register_at_fork(after_in_child=_forget)


def remove_temporary_files() -> None:
    """Delete what threads are writing, in a process that exits without waiting for them."""
    for temporary in list(_temporaries):
        with contextlib.suppress(OSError):
            temporary.unlink()


def _replace(temporary: Path, target: Path) -> None:
    """Give a complete file its name; beside it if another program holds the name, as Excel does.

    Raises StorageError in that case.
    """
    try:
        os.replace(temporary, target)
        return
    except OSError as error:
        if error.errno not in _LOCKED or not target.is_file():
            raise
    beside = target.with_name(f"{target.stem}.new{target.suffix}")
    os.replace(temporary, beside)
    raise StorageError(
        f"{target}: another program has it open and locks it; close it there and run again (the "
        f"new file is {beside})"
    )


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut: the folder's entry must reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:  # some network shares cannot sync folders
            raise
    finally:
        os.close(descriptor)
