"""What INPUT means: a folder of images, or a list that names them; and where its names begin.

    from visionflows.scoring.input_source import Source
    source = Source("inbox")                         # or "out/failures.csv", "batch.txt"
    for entry in source.entries(): …
    source.check()                                   # it is still the one that was listed

A list is a .csv with a column `path`, such as the failures.csv of a run, or a .txt with a name a
line. Its names are relative to that run's own root (run.json beside it), else to the list's folder.
"""

import csv
import io
import os
from collections.abc import Callable, Iterator

from visionflows.errors import RunError, StorageError, one_line
from visionflows.scoring.schema import RunResult
from visionflows.storage import is_local, open_storage, split_location
from visionflows.storage.base import LISTED, Entry, SkippedFiles, Storage, invalid_name_reason
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.versioned_json import SchemaError

LISTS = (".csv", ".txt")
GENERATIONS = 20  # lists of lists of failures that are followed back to where their names begin


class Source:
    """An input: `text` says which, wherever it is asked from, and `root` where its names begin.

    Raises PlaceError where there is no such folder or list, or a line of a list is no name.
    """

    def __init__(self, text: str):
        self._listed: list[Entry] | None = None
        self.skipped = SkippedFiles()  # what the listing passes over, and was closed to us
        if _is_list(text):
            beside, name = split_location(text)
            self.storage, self._listed = read_list(text)
            self.text = f"{absolute(beside).rstrip('/')}/{encode_name(name)}"
        else:
            self.storage = open_storage(text)
            self.text = absolute(self.storage)
        self.root = absolute(self.storage)
        self._identity = self._look()

    @property
    def is_list(self) -> bool:
        return self._listed is not None

    def entries(
        self, sort: bool = True, keep: Callable[[str], bool] | None = None
    ) -> Iterator[Entry]:
        """The files there that `keep` keeps, sorted by the text of their names; of a list all.

        Without `sort` they come as the place lists them, which nearly all do in that order.
        """
        if self._listed is not None:
            return iter(self._listed)
        return self.storage.walk(keep, self.skipped)

    def there(self) -> None:
        """Nothing, if there is a folder where the names begin. Raises PlaceError."""
        if isinstance(self.storage, LocalStorage) and not self._identity:
            raise StorageError(f"{self.root}: no such folder; bring it back, or name another input")

    def check(self) -> None:
        """Nothing, if the folder is still there and the same. Raises RunError."""
        if self._identity and self._look() != self._identity:
            raise RunError(
                f"{self.root}: went away, or is another folder or disk than when it was listed; "
                "nothing was replaced: bring it back and run again to go on"
            )

    def _look(self) -> tuple[int, int] | None:
        """What tells a folder on this machine from another of its name; None where it is gone."""
        if not isinstance(self.storage, LocalStorage):
            return None
        try:
            status = os.stat(self.storage.root)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def absolute(where: Storage) -> str:
    """A place as text that means the same from any folder."""
    if isinstance(where, LocalStorage):
        return encode_name(os.path.abspath(where.root))
    return str(where)


def placed(told: str) -> Storage:
    """The place that `absolute` told."""
    return open_storage(decode_name(told) if is_local(told) else told)


def same_input(told: str, ours: str) -> bool:
    """Whether an input that was told is ours; the version before told it as it was typed."""
    return told == ours or absolute(placed(told)) == ours


def _is_list(text: str) -> bool:
    if not text.lower().endswith(LISTS):
        return False
    there = open_storage(text)
    return not (isinstance(there, LocalStorage) and os.path.isdir(there.root))


def read_list(where: str) -> tuple[Storage, list[Entry]]:
    """The place and the files that a list names, sorted. Raises PlaceError naming a bad line."""
    beside, name = split_location(where)
    try:
        data = beside.read(name)
    except FileNotFoundError as error:
        raise StorageError(
            f"{where}: no such file; name a folder of images, or a list of paths"
        ) from error
    except OSError as error:
        raise StorageError(f"{where}: cannot be read ({error.strerror}); name another") from error
    root = _root_of(beside, 0)
    rule = invalid_name_reason if isinstance(root, LocalStorage) else _key_fault
    read = _csv_lines if where.lower().endswith(".csv") else _txt_lines
    names = set()
    for line, text in read(where, _decoded(where, data)):
        fault = "has no path" if text is None else rule(decode_name(text))
        if text is None or fault:
            shown = one_line("" if text is None else ascii(text))
            raise StorageError(f"{where}: line {line}: {shown} {fault}; mend that line")
        names.add(decode_name(text))
    return root, [Entry(name, 0, LISTED) for name in sorted(names, key=encode_name)]


def _key_fault(key: str) -> str | None:
    """Why a text can be no key of a bucket: less is asked of one than of a path."""
    if not key or "\0" in key:
        return "is no key"
    return None if key.encode(errors="ignore").decode() == key else "is no UTF-8"


def _decoded(where: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StorageError(f"{where}: line {line}: not UTF-8; save the list as UTF-8") from error


def _csv_lines(where: str, text: str) -> Iterator[tuple[int, str | None]]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if "path" not in (rows.fieldnames or ()):
            raise StorageError(f"{where}: has no column `path`; give the failures.csv of a run")
        for row in rows:
            yield rows.line_num, row["path"]
    except csv.Error as error:
        line = rows.reader.line_num
        raise StorageError(f"{where}: line {line}: no CSV ({error}); mend the line") from error


def _txt_lines(where: str, text: str) -> Iterator[tuple[int, str | None]]:
    """A name a line; empty lines say nothing, and what `find .` puts in front is taken off."""
    for number, line in enumerate(text.split("\n"), 1):
        if name := line.removesuffix("\r"):
            yield number, name.removeprefix("./")


def _root_of(beside: Storage, generation: int) -> Storage:
    """Where the names of a list begin: at the root of the run beside it, else in its folder.

    A run of the version before did not say its root: it is its input, or that of the list it was.
    """
    try:
        run = RunResult.read(beside.read("run.json"))
    except FileNotFoundError:
        return beside
    except SchemaError as error:
        raise StorageError(
            f"{beside}/run.json: {error}; remove it, or run that run again"
        ) from error
    if not run.root and _is_list(run.input) and generation < GENERATIONS:
        return _root_of(split_location(run.input)[0], generation + 1)
    return placed(run.root or run.input)
