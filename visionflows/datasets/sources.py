"""What a dataset's name refers to: a path on this machine, or an archive elsewhere."""

import contextlib
import difflib
import gzip
import io
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from visionflows.datasets.content_sniffing import ARCHIVE_SUFFIX, check_download, is_archive_name
from visionflows.datasets.download import (
    RemoteVersion,
    check_url,
    download,
    public_url,
    remote_version,
)
from visionflows.errors import FetchError, SettingsError, StorageError
from visionflows.storage import open_storage, split_location
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import encode_name


class Source(NamedTuple):
    """A dataset as the user named it; what has no `path` is downloaded."""

    name: str  # fit for a folder's name
    text: str  # as logs and errors show it
    path: Path | None = None
    key: str = ""  # differs from every other source's; only its hash is written down
    # Writes the archive to a path; after an ArchiveError the file must be removed.
    download: Callable[[Path], RemoteVersion] | None = None
    # The version that the source has now, or FetchError or StorageError; None: it never changes.
    version: Callable[[], RemoteVersion] | None = None


def find_source(dataset: str) -> Source:
    """The source that a name refers to. Raises SettingsError or StorageError if there is none."""
    if dataset == "digits":
        return Source("digits", "digits", key="digits", download=write_digits)
    if dataset.lower().startswith(("http://", "https://")):
        return _url_source(dataset)
    storage = open_storage(dataset)
    if not storage.is_local:
        return _storage_source(dataset)
    path = storage.absolute()
    if os.path.isdir(path) or os.path.isfile(path):
        return Source(_stem(path), encode_name(path), Path(path))
    if re.fullmatch(r"\w+", dataset):
        return _url_source(fastai_url(dataset), dataset.lower())._replace(version=None)
    raise StorageError(f"{dataset}: no such file or folder; check the path")


def fastai_url(name: str) -> str:
    """The URL of one of fastai's datasets, its name in any case. Raises SettingsError."""
    from fastai.data.external import URLs  # imports torch, which takes seconds

    urls = {key.upper(): str(url) for key, url in vars(URLs).items() if is_archive_name(str(url))}
    if name.upper() in urls:
        return urls[name.upper()]
    near = difflib.get_close_matches(name.upper(), urls) or ["PETS"]
    raise SettingsError(
        f"{name}: no such file or folder, and no dataset that fastai names (near: "
        f"{', '.join(near)}); name an archive, a folder, a URL, one of fastai's, or digits"
    )


def write_digits(archive: Path) -> RemoteVersion:
    """Write scikit-learn's 1,797 handwritten digits into a .tgz as `digits/<label>/…png`.

    The same versions of scikit-learn, Pillow and zlib write the same bytes. The source is the
    test set of Alpaydin and Kaynak's Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    with (
        LocalStorage(archive.parent).open_write(archive.name) as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for index, (label, grey) in enumerate(zip(digits.target, digits.images, strict=True)):
            # 0 to 16 becomes 0 to 255. Networks halve a picture five times, which 8 × 8 is too
            # small for.
            image = Image.fromarray((grey * (255 / 16)).round().astype("uint8"))
            content = io.BytesIO()
            image.resize((32, 32), Image.Resampling.BICUBIC).save(content, "PNG")
            # A TarInfo starts with mtime 0, uid 0 and no names: nothing of this machine.
            info = tarfile.TarInfo(f"digits/{label}/{label}_{index:04}.png")
            info.size = content.tell()
            content.seek(0)
            tar.addfile(info, content)
    return RemoteVersion()


def _url_source(url: str, name: str = "") -> Source:
    check_url(url)

    def fetch(path: Path) -> RemoteVersion:
        version = download(url, path)
        check_download(public_url(url), path)
        return version

    return Source(
        name or _stem(urlsplit(url).path),
        public_url(url),
        key=public_url(url) + urlsplit(url).query,
        download=fetch,
        version=lambda: remote_version(url),
    )


def _storage_source(archive: str) -> Source:
    if archive.count("/") < 3 or archive.endswith("/"):
        raise SettingsError(f"{archive}: name an archive in it, such as {archive}/pets.tgz")
    storage, name = split_location(archive)

    def version() -> RemoteVersion:
        with _storage_errors(archive):
            entry = storage.entry(name)
        return RemoteVersion(entry.version, entry.size)

    def fetch(path: Path) -> RemoteVersion:
        before = version()  # if it changes during the copy, the next run sees another version
        target = LocalStorage(path.parent).open_write(path.name)
        with _storage_errors(archive), storage.open_read(name) as file, target as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        return before

    return Source(_stem(name), archive, key=archive, download=fetch, version=version)


@contextlib.contextmanager
def _storage_errors(archive: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{archive}: no such archive; check its name") from error
    except OSError as error:
        raise FetchError(f"{archive}: {error.strerror or error}; run it again") from error


def _stem(name: str) -> str:
    """A name for logs and folders, from a path, a URL or a file name."""
    stem = ARCHIVE_SUFFIX.sub("", name.rstrip("/").rpartition("/")[2])
    return re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-.")[:60] or "dataset"
