"""What a person names as a dataset: something on this machine, or an archive to be brought.

    from visionflows.datasets.sources import find_source
    find_source("https://example.org/pets.tgz").name     # "pets"

A source elsewhere brings its archive, and says which version it has (visionflows.datasets.remote_version).
"""

import contextlib
import difflib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from visionflows.datasets.digits import write_digits
from visionflows.datasets.download import check_url, download, public_url
from visionflows.datasets.error_pages import check_answer
from visionflows.datasets.remote_version import Mark, ask
from visionflows.errors import ArchiveError, FetchError, SettingsError, StorageError
from visionflows.storage import is_local, open_storage, split_location
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import encode_name

_ENDING = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|tzst|zip)$", re.IGNORECASE)


class Source(NamedTuple):
    """What a person named. `bring` puts an archive under a path, whole, and gives its mark.

    `ask` gives the mark that the source has now, without the archive; FetchError or PlaceError
    says why it does not. One that never changes has none.
    """

    name: str  # fit for a folder's name
    text: str  # as people may see it
    path: Path | None = None
    key: str = ""  # tells it from every other source; only its hash is written down
    bring: Callable[[Path], Mark] | None = None
    ask: Callable[[], Mark] | None = None


def find_source(dataset: str) -> Source:
    """What a person named. Raises SettingsError or PlaceError where there is no such thing."""
    if dataset == "digits":
        return Source("digits", "digits", key="digits", bring=_digits)
    if dataset.lower().startswith(("http://", "https://")):
        return _web(dataset)
    if not is_local(dataset):
        return _stored(dataset)
    path = os.path.abspath(cast(LocalStorage, open_storage(dataset)).path())
    if os.path.isdir(path) or os.path.isfile(path):
        return Source(_stem(path), encode_name(path), Path(path))
    if re.fullmatch(r"\w+", dataset):
        return _web(fastai_url(dataset), dataset.lower())._replace(ask=None)
    raise StorageError(f"{dataset}: no such file or folder; check the path")


def fastai_url(name: str) -> str:
    """The URL of the dataset that fastai gives this name, in any case. Raises SettingsError."""
    from fastai.data.external import URLs  # imports torch, which takes seconds

    known: dict[str, str] = {
        key.upper(): url for key, url in vars(URLs).items() if _ENDING.search(str(url))
    }
    if name.upper() in known:
        return known[name.upper()]
    near = difflib.get_close_matches(name.upper(), known) or ["PETS"]
    raise SettingsError(
        f"{name}: no such file or folder, and no dataset that fastai names (near: "
        f"{', '.join(near)}); name an archive, a folder, a URL, one of fastai's, or digits"
    )


def _digits(path: Path) -> Mark:
    write_digits(path)
    return Mark()


def _web(url: str, name: str = "") -> Source:
    check_url(url)
    name = name or _stem(urlsplit(url).path)
    key = public_url(url) + urlsplit(url).query

    def bring(path: Path) -> Mark:
        # While it is unpacked, the archive and its content lie side by side: twice the room.
        mark = download(url, path, room=2)
        try:
            check_answer(public_url(url), path)
        except ArchiveError:
            path.unlink()  # the next run must not meet it again
            raise
        return mark

    return Source(name, public_url(url), key=key, bring=bring, ask=lambda: ask(url))


def _stored(archive: str) -> Source:
    """An archive in a place that is not on this machine, such as s3://."""
    if archive.count("/") < 3 or archive.endswith("/"):
        raise SettingsError(f"{archive}: name an archive in it, such as {archive}/pets.tgz")
    there, name = split_location(archive)

    def mark() -> Mark:
        with _errors_of(archive):
            entry = there.entry(name)
        return Mark(entry.version, entry.size)

    def bring(path: Path) -> Mark:
        before = mark()  # where it changes meanwhile, this is not the mark: the next run sees that
        with (
            _errors_of(archive),
            there.open_read(name) as file,
            LocalStorage(path.parent).open_write(path.name) as copy,
        ):
            shutil.copyfileobj(file, copy, 1 << 20)
        return before

    return Source(_stem(name), archive, key=archive, bring=bring, ask=mark)


@contextlib.contextmanager
def _errors_of(archive: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{archive}: no such archive; check its name") from error
    except OSError as error:
        raise FetchError(f"{archive}: {error.strerror or error}; run it again") from error


def _stem(name: str) -> str:
    """A name for people and folders, from a path, a URL or a file's name."""
    stem = _ENDING.sub("", name.rstrip("/").rpartition("/")[2])
    return re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-.")[:60] or "dataset"
