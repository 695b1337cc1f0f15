"""The input of a run: a folder of images, or a list of paths.

A list is a .csv with a column `path`, such as a run's failures.csv, or a .txt with a path a line.
Its paths are relative to the root of the run beside it (run.json), else to the list's folder.
"""

import csv
import io
from collections.abc import Callable, Iterator

from visionflows.errors import RunError, StorageError, one_line
from visionflows.scoring.schema import RunResult
from visionflows.storage import location_text, open_location, open_storage, split_location
from visionflows.storage.base import LISTED, Entry, SkippedFiles, Storage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.versioned_json import SchemaError

LIST_ENDINGS = (".csv", ".txt")


class Source:
    """An input: `text` is its absolute location, `root` the location its names are relative to.

    Raises StorageError if there is no such list, or a line of it is not a valid path.
    """

    def __init__(self, location: str):
        self._list: list[Entry] | None = None
        self.skipped = SkippedFiles()
        if _is_list(location):
            folder, name = split_location(location)
            self.storage, self._list = read_list(location)
            self.text = f"{location_text(folder).rstrip('/')}/{encode_name(name)}"
        else:
            self.storage = open_storage(location)
            self.text = location_text(self.storage)
        self.root = location_text(self.storage)
        self._identity = self._find_identity()

    @property
    def is_list(self) -> bool:
        return self._list is not None

    def entries(self, keep: Callable[[str], bool] | None = None) -> Iterator[Entry]:
        """The files sorted by the text of their names: those that `keep` accepts, or the list."""
        if self._list is not None:
            return iter(self._list)
        return self.storage.walk(keep, self.skipped)

    def check_exists(self) -> None:
        """Raise StorageError if the root is a missing folder."""
        if self.storage.is_local and not self._identity:
            raise StorageError(f"{self.root}: no such folder; restore it, or name another input")

    def check_unchanged(self) -> None:
        """Raise RunError if the root is gone, or is another folder (an empty mount point)."""
        if self._identity and self._find_identity() != self._identity:
            raise RunError(
                f"{self.root}: is gone, or is another folder or disk than when it was listed; "
                "nothing was replaced: restore it and run again to continue"
            )

    def _find_identity(self) -> tuple[int, int] | None:
        """Device and inode of a folder on this machine; None if it is gone, or in a bucket."""
        path = self.storage.local_path()
        if path is None:
            return None
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _is_list(location: str) -> bool:
    if not location.lower().endswith(LIST_ENDINGS):
        return False
    path = open_storage(location).local_path()
    return path is None or not path.is_dir()


def read_list(location: str) -> tuple[Storage, list[Entry]]:
    """The root and the files of a list, sorted. Raises StorageError that names an invalid line."""
    folder, name = split_location(location)
    try:
        data = folder.read(name)
    except FileNotFoundError as error:
        raise StorageError(
            f"{location}: no such file; name a folder of images, or a list of paths"
        ) from error
    except OSError as error:
        raise StorageError(
            f"{location}: cannot be read ({error.strerror}); name another"
        ) from error
    root = _find_root(folder)
    read = _read_csv if location.lower().endswith(".csv") else _read_txt
    names = set()
    for line, text in read(location, _decode(location, data)):
        reason = "has no path" if text is None else root.invalid_name_reason(decode_name(text))
        if text is None or reason:
            path = one_line("" if text is None else ascii(text))
            raise StorageError(f"{location}: line {line}: {path} {reason}; correct that line")
        names.add(decode_name(text))
    return root, [Entry(name, 0, LISTED) for name in sorted(names, key=encode_name)]


def _decode(location: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StorageError(f"{location}: line {line}: not UTF-8; save the list as UTF-8") from error


def _read_csv(location: str, text: str) -> Iterator[tuple[int, str | None]]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if "path" not in (rows.fieldnames or ()):
            raise StorageError(f"{location}: has no column `path`; give the failures.csv of a run")
        for row in rows:
            yield rows.line_num, row["path"]
    except csv.Error as error:
        line = rows.reader.line_num
        raise StorageError(
            f"{location}: line {line}: not CSV ({error}); correct the line"
        ) from error


def _read_txt(_: str, text: str) -> Iterator[tuple[int, str | None]]:
    """A path a line, without the `./` that `find .` writes; empty lines are ignored."""
    for number, line in enumerate(text.split("\n"), 1):
        if name := line.removesuffix("\r"):
            yield number, name.removeprefix("./")


def _find_root(folder: Storage) -> Storage:
    """The root of the run beside a list; the list's folder if there is no run."""
    try:
        run = RunResult.read(folder.read("run.json"))
    except FileNotFoundError:
        return folder
    except SchemaError as error:
        raise StorageError(
            f"{folder}/run.json: {error}; remove it, or run that run again"
        ) from error
    return open_location(run.root)
