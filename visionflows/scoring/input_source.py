"""The input of a run: a folder of images, or a list of paths in a .csv (column `path`) or .txt."""

import csv
import io
from collections.abc import Iterator

from visionflows.bounded_read import TooLarge
from visionflows.errors import RunError, StorageError, one_line
from visionflows.escaping import unescape_formula
from visionflows.scoring.schema import RunResult
from visionflows.storage import location_text, open_location, open_storage, split_location
from visionflows.storage.base import LISTED, MISSING, Entry, SkippedFiles, Storage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.storage.walk import identity
from visionflows.versioned_json import SchemaError

MAX_BYTES = 2 << 30  # of a list: ten million names of 200 bytes


class Source:
    """An input: `text` is its absolute location, `root` the location its names are relative to."""

    def __init__(self, location: str, skipped: SkippedFiles | None = None):
        """Open an input. Raises StorageError if a list is missing, or a line of it is invalid."""
        self.is_list = _is_list(location)
        self.skipped = skipped or SkippedFiles()
        if self.is_list:
            folder, name = split_location(location)
            self.storage, self._list = read_list(location)
            self.text = f"{location_text(folder).rstrip('/')}/{encode_name(name)}"
        else:
            self.storage = open_storage(location)
            self.text = location_text(self.storage)
        self.root = location_text(self.storage)
        self._identity = self._find_identity()

    def entries(self) -> Iterator[Entry]:
        """The files, sorted by the text of their names."""
        if not self.is_list:
            return self.storage.walk(None, self.skipped)
        return map(self._look_up, self._list) if self.storage.is_local else iter(self._list)

    def _look_up(self, entry: Entry) -> Entry:
        """A listed file with its size and version, so that a resumed run need not read it again."""
        try:
            return self.storage.entry(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return entry._replace(version=MISSING)
        except OSError:
            return entry  # its row reports the error

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
        path = self.storage.path()
        return identity(str(path)) if path else None


def _is_list(location: str) -> bool:
    if not location.lower().endswith((".csv", ".txt")):
        return False
    path = open_storage(location).path()
    return path is None or not path.is_dir()


def read_list(location: str) -> tuple[Storage, list[Entry]]:
    """The root and the files of a list, sorted. Raises StorageError that names an invalid line."""
    folder, name = split_location(location)
    (data,) = folder.read_many([Entry(name, 0, "")], MAX_BYTES)
    if isinstance(data, FileNotFoundError):
        raise StorageError(f"{location}: no such file; name a folder of images, or a list of paths")
    if isinstance(data, TooLarge):
        raise StorageError(f"{location}: {data.size:,} bytes, more than {MAX_BYTES:,}; split it")
    if isinstance(data, OSError):
        raise StorageError(f"{location}: cannot be read ({data.strerror}); name another") from data
    root = _find_root(folder)
    read = _read_csv if location.lower().endswith(".csv") else _read_txt
    names = set()
    for line, text in read(location, _decode(location, data)):
        name = decode_name(text)
        # failures.csv also names folders that could not be listed, with a slash.
        if reason := root.invalid_name_reason(name.removesuffix("/")):
            path = one_line(ascii(text))
            raise StorageError(f"{location}: line {line}: {path} {reason}; correct that line")
        names.add(name)
    return root, [Entry(name, 0, LISTED) for name in sorted(names, key=encode_name)]


def _decode(location: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StorageError(f"{location}: line {line}: not UTF-8; save the list as UTF-8") from error


def _read_csv(location: str, text: str) -> Iterator[tuple[int, str]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "path" not in (rows.fieldnames or ()):
            raise StorageError(f"{location}: has no column `path`; give the failures.csv of a run")
        is_failures = rows.fieldnames == ["path", "status", "error"]  # whose cells are no formulas
        for row in rows:
            if (path := row["path"]) is None:
                raise StorageError(
                    f"{location}: line {rows.line_num}: has no path; correct that line"
                )
            yield rows.line_num, unescape_formula(path) if is_failures else path
    except csv.Error as error:
        line = rows.reader.line_num
        raise StorageError(
            f"{location}: line {line}: not CSV ({error}); correct the line"
        ) from error


def _read_txt(_: str, text: str) -> Iterator[tuple[int, str]]:
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
