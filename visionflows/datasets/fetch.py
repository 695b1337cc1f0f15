"""Fetch a dataset into the store: download, verify and unpack it once, then reuse it.

`<store>/datasets` holds one folder `<name>-<sha8>` per archive. Hidden folders beside them hold
records (written last), versions of sources, downloaded archives and locks.
"""

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from visionflows.datasets.download import RemoteVersion
from visionflows.datasets.sources import Source, find_source
from visionflows.datasets.unpack import unpack
from visionflows.errors import (
    ArchiveError,
    ChecksumError,
    FetchError,
    LockedError,
    SettingsError,
    StorageError,
)
from visionflows.hashing import sha256_of, sha256_of_file
from visionflows.storage import open_local_or_cache
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name

MAX_WAIT = 24 * 3600.0  # seconds, for another run that fetches the same

logger = logging.getLogger("visionflows.fetch")


@dataclass(frozen=True)
class Dataset:
    """A folder of images, and where it came from."""

    name: str  # fit for a folder's name
    folder: Path
    source: str  # `digits`, a path, or a URL without what may be secret
    sha256: str | None  # of the archive; None for a folder


def fetch(dataset: str | Path, store: str | Path, *, sha256: str | None = None) -> Dataset:
    """The dataset, its images in a folder of the store; a local folder is used where it is.

    `dataset` is a fastai name in any case (`PETS`), an http(s) URL, `s3://bucket/archive`, a local
    archive (.tgz, .tar, .tar.*, .zip) or folder, or `digits`. A dataset in the store is reused
    unless its source has another version now (one request), or `sha256` (64 hex digits) asks for
    another archive. Runs at the same time share one download. Raises SettingsError, StorageError,
    FetchError, ArchiveError, and ChecksumError if the archive has another `sha256`.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise SettingsError(f"sha256 {sha256!r}: not 64 hex digits; copy it again")
    expected = sha256.lower() if sha256 else None
    source = find_source(str(dataset))
    if source.path and source.path.is_dir():
        if expected:
            raise SettingsError(f"{dataset}: a folder has no sha256; leave it out")
        return Dataset(source.name, source.path, source.text, None)
    fetcher = _Fetcher(datasets_storage(store), source, expected)
    fetcher.datasets.check_writable()
    return fetcher.unpack(source.path) if source.path else fetcher.fetch()


def find_dataset(name: str, source: str, sha256: str | None, store: str | Path) -> Path:
    """The folder of a dataset fetched before, as model.json describes it. Raises StorageError."""
    if sha256 is None:
        folder = Path(decode_name(source))
        exists = bool(source) and folder.is_dir()
    else:
        datasets = datasets_storage(store)
        folder = datasets.path(f"{name}-{sha256[:8]}")
        exists = _is_complete(datasets, folder.name, sha256)
    if not exists:
        raise StorageError(
            f"{encode_name(str(folder))}: the images of {name} are no longer there; name the "
            "folder where they are"
        )
    return folder


def datasets_storage(store: str | Path) -> LocalStorage:
    """The datasets of a store on this machine: training reads them many times over."""
    return LocalStorage(open_local_or_cache(store).path("datasets").absolute())


@dataclass(frozen=True)
class _Fetcher:
    """Fetches one source into the datasets of a store."""

    datasets: LocalStorage
    source: Source
    expected: str | None  # the sha256 that the archive must have

    def fetch(self) -> Dataset:
        """The source's dataset: reused from the store, or downloaded and unpacked."""
        key = sha256_of(self.source.key.encode())[:32]
        with self._lock(key):
            return self._reuse(f".sources/{key}.json") or self._download(key)

    def _reuse(self, note_name: str) -> Dataset | None:
        """The dataset in the store, if its source has no other version now."""
        note = _read_json(self.datasets, note_name)
        if (
            not note
            or self.expected not in (None, note["sha256"])
            or not _is_complete(self.datasets, note["folder"], note["sha256"])
        ):
            return None
        folder = self.datasets.path(note["folder"])
        if not self.expected:  # else it is the archive asked for, even if the source has changed
            known = RemoteVersion(note["tag"], note["size"])
            current = self._current_version(known, folder)
            if current is None:
                return None
            if current != known:
                _write_json(self.datasets, note_name, {**note, **current._asdict()})
        logger.info("%s: already in %s", self.source.text, folder)
        return Dataset(self.source.name, folder, self.source.text, note["sha256"])

    def _download(self, key: str) -> Dataset:
        archive = f".archives/{key}"
        try:
            version = self._download_archive(archive)
            dataset = self.unpack(self.datasets.path(archive))
        except (ArchiveError, ChecksumError):
            self._remove_archive(archive)  # else the next run would use it
            raise
        note = {"folder": dataset.folder.name, "sha256": dataset.sha256, **version._asdict()}
        _write_json(self.datasets, f".sources/{key}.json", note)
        self._remove_archive(archive)
        return dataset

    def _download_archive(self, archive: str) -> RemoteVersion:
        """The version of the archive, downloaded unless an earlier run had no room to unpack it."""
        path = self.datasets.path(archive)
        note = _read_json(self.datasets, f"{archive}.json") if path.exists() else None
        if note:
            current = self._current_version(RemoteVersion(note["tag"], note["size"]), path)
            if current is not None:
                return current
        self._remove_archive(archive)
        assert self.source.download, "only a source with a path has no download"
        version = self.source.download(path)
        _write_json(self.datasets, f"{archive}.json", version._asdict())
        return version

    def _remove_archive(self, archive: str) -> None:
        self.datasets.remove(archive)
        self.datasets.remove(f"{archive}.json")

    def _current_version(self, known: RemoteVersion, path: Path) -> RemoteVersion | None:
        """The source's version now; None if it surely differs from the known one of `path`."""
        if self.source.version is None:
            return known
        try:
            current = self.source.version()
        except (FetchError, StorageError) as error:
            logger.warning(
                "%s: could not be asked whether it has changed (%s); used as it was fetched: %s",
                *(self.source.text, error, path),
            )
            return known
        pairs = [(new, old) for new, old in zip(current, known, strict=True) if new and old]
        if any(new != old for new, old in pairs):
            logger.info("%s: has changed since it was fetched; fetching again", self.source.text)
            return None
        if not pairs:
            logger.warning(
                "%s: nothing shows whether it has changed; used as it was fetched: %s; remove "
                "that to fetch it again",
                *(self.source.text, path),
            )
        return RemoteVersion(current.tag or known.tag, current.size or known.size)

    def unpack(self, archive: Path) -> Dataset:
        """The dataset of a local archive, unpacked unless its folder is complete already."""
        text, sha256 = self.source.text, self._sha256(archive)
        name = f"{self.source.name}-{sha256[:8]}"
        folder = self.datasets.path(name)
        with self._lock(name):
            if _is_complete(self.datasets, name, sha256):
                logger.info("%s: already in %s", text, folder)
            else:
                self.datasets.remove(name)
                files, size = unpack(archive, folder, text)
                record = {"source": text, "sha256": sha256, "files": files, "bytes": size}
                _write_json(self.datasets, f".records/{name}.json", record)
                counts = f"{files:,} files, {size:,} bytes"
                logger.info("%s: %s, in %s", text, counts, folder)
        return Dataset(self.source.name, folder, text, sha256)

    def _sha256(self, archive: Path) -> str:
        """The sha256 of an archive, which must be the expected one."""
        try:
            with archive.open("rb") as file:
                sha256 = sha256_of_file(file)
        except OSError as error:
            raise StorageError(
                f"{archive}: cannot be read ({error.strerror}); give this user the right to"
            ) from error
        if self.expected not in (None, sha256):
            raise ChecksumError(
                f"{self.source.text}: its sha256 is {sha256}, not {self.expected}; check address "
                "and sum"
            )
        return sha256

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Hold the lock of one source or folder; wait for a run that has it."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.datasets.lock(f".locks/{name}"))
            except LockedError:
                logger.info("%s: another run is fetching it; waiting", self.source.text)
                stack.enter_context(self.datasets.lock(f".locks/{name}", wait=MAX_WAIT))
            yield


def _is_complete(datasets: LocalStorage, folder: str, sha256: str) -> bool:
    """Whether a folder holds all of the archive with this sha256: its record is written last."""
    record = _read_json(datasets, f".records/{folder}.json")
    return datasets.exists(folder) and record is not None and record["sha256"] == sha256


def _read_json(datasets: LocalStorage, name: str) -> dict[str, Any] | None:
    exists = datasets.exists(name)
    return cast(dict[str, Any], json.loads(datasets.read(name))) if exists else None


def _write_json(datasets: LocalStorage, name: str, content: dict[str, Any]) -> None:
    datasets.write(name, json.dumps(content, indent=2).encode())
