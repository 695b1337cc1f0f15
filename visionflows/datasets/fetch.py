"""Bring a dataset into the store: download, check, unpack once, use again.

    from visionflows.datasets.fetch import fetch
    fetch("PETS", "store").folder                    # a fastai name; or a URL, archive, folder

fastai's own piece here is `fastai.data.external.URLs`, its list of datasets. Its `untar_data` is
not used: fastdownload, which does its work, starts a broken download over from the first byte,
checks a file by its size and the md5 of its first megabyte, and unpacks with
`shutil.unpack_archive`, which knows no limits.

`<store>/datasets` (of a store in a bucket: `datasets` in the cache on this machine) holds the
folders `<name>-<sha8>` and, hidden, `.records` (a folder counts as whole once it has one),
`.sources` (which source is in which folder), `.archives` (on their way) and `.locks`. They lie
outside the folders, where no archive can bring its own.

An archive elsewhere may change. So its source is asked, each time, which version it has now
(`visionflows.datasets.remote_version`), and another one is brought into a folder of its own.
"""

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from visionflows.datasets.archive import unpack
from visionflows.datasets.archive_entries import LIMITS, UnpackLimits
from visionflows.datasets.remote_version import Mark
from visionflows.datasets.sources import Source, find_source
from visionflows.errors import (
    ArchiveError,
    ChecksumError,
    FetchError,
    LockedError,
    SettingsError,
    StorageError,
)
from visionflows.hashing import sha256_of, sha256_of_file
from visionflows.storage import is_local, open_cache, open_storage
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name

LONGEST_WAIT = 24 * 3600.0  # seconds, for another run that is at the same work

logger = logging.getLogger("visionflows.fetch")


@dataclass(frozen=True)
class Dataset:
    """A folder of images, and where it came from."""

    name: str  # fit for a folder's name
    folder: Path
    source: str  # `digits`, a path, or a URL without what may be secret
    sha256: str | None  # of the archive; None for a folder


def fetch(
    dataset: str, store: str | Path, *, sha256: str | None = None, limits: UnpackLimits = LIMITS
) -> Dataset:
    """The dataset, its images in a folder of the store; a local folder stays where it lies.

    `dataset` is a name of fastai's in any case (`PETS`), an http(s) URL, `s3://bucket/archive`,
    a local archive (.tgz, .tar, .tar.*, .zip) or folder, or `digits`. What the store has from
    the same source is used again if that still has the same archive, as one request asks, or
    does not answer, which a warning says. Nothing is asked where `sha256` (64 hex digits) is that
    of what the store has, nor of fastai's names; another `sha256` brings the archive anew. Two
    runs at once share one download. Raises SettingsError or PlaceError before any work;
    FetchError; ChecksumError where the archive is not that of `sha256`; ArchiveError.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise SettingsError(f"sha256 {sha256!r}: not 64 hex digits; copy it again")
    expected = sha256.lower() if sha256 else None
    source = find_source(dataset)
    if source.path and source.path.is_dir():
        if expected:
            raise SettingsError(f"{dataset}: a folder has no sha256; leave it out")
        return Dataset(source.name, source.path, source.text, None)
    home = _datasets(store)
    if source.path:
        return _unpacked(home, source, source.path, expected, limits)
    return _brought(home, source, expected, limits)


def find_dataset(name: str, source: str, sha256: str | None, store: str | Path) -> Path:
    """The folder of a dataset that was fetched before, as model.json tells of it; asks nobody.

    Raises PlaceError where it is there no more.
    """
    if sha256 is None:
        folder = Path(decode_name(source))
        there = bool(source) and folder.is_dir()
    else:
        home = datasets_storage(store)
        folder = home.path(f"{name}-{sha256[:8]}")
        there = _is_whole(home, folder.name, sha256)
    if not there:
        raise StorageError(
            f"{encode_name(str(folder))}: the images of {name} are not there any more; name the place "
            "where they are"
        )
    return folder


def _datasets(store: str | Path) -> LocalStorage:
    home = datasets_storage(store)
    home.check_writable()
    return home


def datasets_storage(store: str | Path) -> LocalStorage:
    """Where a store keeps its datasets on this machine."""
    # What is trained on is read many times over: of a store elsewhere it is kept in the cache.
    home = cast(LocalStorage, open_storage(store)) if is_local(store) else open_cache()
    return LocalStorage(home.path("datasets").absolute())


def _brought(
    home: LocalStorage, source: Source, expected: str | None, limits: UnpackLimits
) -> Dataset:
    """The dataset of a source: from the store if it is there, else brought and unpacked."""
    key = sha256_of(source.key.encode())[:32]
    with _alone(home, key, source.text):
        there = _there(home, f".sources/{key}.json", source, expected)
        return there or _anew(home, key, source, expected, limits)


def _there(home: LocalStorage, note: str, source: Source, expected: str | None) -> Dataset | None:
    """The dataset that a note tells of, if the store has it and its source no other by now."""
    known = _read_json(home, note)
    if not known or expected not in (None, known["sha256"]):
        return None
    if not _is_whole(home, known["folder"], known["sha256"]):
        return None
    folder, before = home.path(known["folder"]), _mark(known)
    if not expected:  # else it is the very archive that was asked for, whatever lies there now
        now = _unchanged(source, before, folder)
        if now is None:
            return None
        if now != before:
            _write_json(home, note, {**known, **now._asdict()})
    logger.info("%s: already in %s", source.text, folder)
    return Dataset(source.name, folder, source.text, known["sha256"])


def _anew(
    home: LocalStorage, key: str, source: Source, expected: str | None, limits: UnpackLimits
) -> Dataset:
    """The dataset of a source's archive, brought and unpacked; the source is noted with it."""
    packed = f".archives/{key}"
    mark = _packed(home, packed, source)
    try:
        dataset = _unpacked(home, source, home.path(packed), expected, limits)
    except (ArchiveError, ChecksumError):
        _forget(home, packed)  # the next run must not meet it again
        raise
    told = {"folder": dataset.folder.name, "sha256": dataset.sha256, **mark._asdict()}
    _write_json(home, f".sources/{key}.json", told)
    _forget(home, packed)  # all that it held is in the folder now, and disks are not endless
    return dataset


def _packed(home: LocalStorage, packed: str, source: Source) -> Mark:
    """The mark of a source's archive, brought unless an earlier run had no room to unpack it."""
    path = home.path(packed)
    if path.exists():
        before = _mark({"size": path.stat().st_size, **(_read_json(home, f"{packed}.json") or {})})
        now = _unchanged(source, before, path)
        if now is not None:
            return now
        _forget(home, packed)
    assert source.bring, "what has no path is brought"
    mark = source.bring(path)
    _write_json(home, f"{packed}.json", mark._asdict())
    return mark


def _forget(home: LocalStorage, packed: str) -> None:
    home.remove(packed)
    home.remove(f"{packed}.json")


def _unchanged(source: Source, before: Mark, there: Path) -> Mark | None:
    """What to note of an archive that its source still has; None where it has another one.

    Where the source does not answer, or says nothing that tells, what is there is taken.
    """
    if source.ask is None:
        return before
    try:
        now = source.ask()
    except (FetchError, StorageError) as error:
        logger.warning(
            "%s: could not be asked whether it has changed (%s); used as it was fetched: %s",
            *(source.text, error, there),
        )
        return before
    if now.is_other(before):
        logger.info("%s: has changed since it was fetched; fetching it anew", source.text)
        return None
    if not now.tells(before):
        logger.warning(
            "%s: nothing tells whether it has changed; used as it was fetched: %s; remove that "
            "to fetch it anew",
            *(source.text, there),
        )
    return now.over(before)


def _mark(known: dict[str, Any]) -> Mark:
    """What a note says of its archive's version; those of before say nothing."""
    return Mark(known.get("tag", ""), known.get("size", 0))


def _unpacked(
    home: LocalStorage, source: Source, archive: Path, expected: str | None, limits: UnpackLimits
) -> Dataset:
    """The dataset of an archive on this machine, unpacked unless its folder is whole already."""
    sha256 = _digest(archive)
    if expected not in (None, sha256):
        raise ChecksumError(
            f"{source.text}: its sha256 is {sha256}, not {expected}; check the address and the sum"
        )
    folder = f"{source.name}-{sha256[:8]}"
    with _alone(home, folder, source.text):
        if _is_whole(home, folder, sha256):
            logger.info("%s: already in %s", source.text, home.path(folder))
        else:
            home.remove(folder)
            unpacked = unpack(archive, home.path(folder), limits, source.text)
            record = {"source": source.text, "sha256": sha256, **unpacked._asdict()}
            _write_json(home, f".records/{folder}.json", record)
            logger.info(
                "%s: %s files, %s bytes, in %s",
                *(source.text, f"{unpacked.files:,}", f"{unpacked.bytes:,}", home.path(folder)),
            )
    return Dataset(source.name, home.path(folder), source.text, sha256)


def _is_whole(home: LocalStorage, folder: str, sha256: str) -> bool:
    """Whether a folder holds all of the archive with this sha256: its record was written last."""
    record = f".records/{folder}.json"
    return (
        home.exists(folder)
        and home.exists(record)
        and json.loads(home.read(record))["sha256"] == sha256
    )


def _read_json(home: LocalStorage, name: str) -> dict[str, Any] | None:
    return cast(dict[str, Any], json.loads(home.read(name))) if home.exists(name) else None


def _write_json(home: LocalStorage, name: str, content: dict[str, Any]) -> None:
    home.write(name, json.dumps(content, indent=2).encode())


def _digest(archive: Path) -> str:
    try:
        with archive.open("rb") as file:
            return sha256_of_file(file)
    except OSError as error:
        raise StorageError(
            f"{archive}: cannot be read ({error.strerror}); give this user the right to"
        ) from error


@contextlib.contextmanager
def _alone(home: LocalStorage, name: str, what: str) -> Iterator[None]:
    """Keep other runs off one piece of the work, after theirs is done."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(home.lock(f".locks/{name}"))
        except LockedError:
            logger.info("%s: another run is fetching it; waiting for that", what)
            held.enter_context(home.lock(f".locks/{name}", wait=LONGEST_WAIT))
        yield
