"""Bring a dataset into the store: download, check, unpack once, use again.

    from visionflows.data.fetch import fetch
    fetch("PETS", "store").folder                    # a fastai name; or a URL, archive, folder

fastai's own piece here is `fastai.data.external.URLs`, its list of datasets. Its `untar_data` is
not used: fastdownload, which does its work, starts a broken download over from the first byte,
checks a file by its size and the md5 of its first megabyte, and unpacks with
`shutil.unpack_archive`, which knows no limits.

`<store>/datasets` (of a store in a bucket: `datasets` in the cache on this machine) holds the
folders `<name>-<sha8>` and, hidden, `.records` (a folder counts as whole once it has one),
`.sources` (which source is in which folder), `.archives` (on their way) and `.locks`. They lie
outside the folders, where no archive can bring its own.
"""

import contextlib
import difflib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from visionflows.data.answers import check_answer
from visionflows.data.archive import unpack
from visionflows.data.digits import write_digits
from visionflows.data.download import check_url, download, public_url
from visionflows.data.entries import LIMITS, UnpackLimits
from visionflows.digest import sha256_of, sha256_of_file
from visionflows.errors import (
    ArchiveError,
    ChecksumError,
    FetchError,
    LockedError,
    PlaceError,
    SettingsError,
)
from visionflows.places import cache, file_in, is_local, place
from visionflows.places.local import LocalPlace
from visionflows.places.names import name_of, text_of

LONGEST_WAIT = 24 * 3600.0  # seconds, for another run that is at the same work
_ENDING = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|tzst|zip)$", re.IGNORECASE)

logger = logging.getLogger("visionflows.fetch")


@dataclass(frozen=True)
class Dataset:
    """A folder of images, and where it came from."""

    name: str  # fit for a folder's name
    folder: Path
    source: str  # `digits`, a path, or a URL without what may be secret
    sha256: str | None  # of the archive; None for a folder


class _Source(NamedTuple):
    """What a person named: something on this machine, or an archive that is to be brought."""

    name: str
    text: str  # as people may see it
    path: Path | None = None
    key: str = ""  # tells it from every other source; only its hash is written down
    bring: Callable[[Path], object] | None = None  # puts the archive under a path, whole


def fetch(
    dataset: str, store: str | Path, *, sha256: str | None = None, limits: UnpackLimits = LIMITS
) -> Dataset:
    """The dataset, its images in a folder of the store; a local folder stays where it lies.

    `dataset` is a name of fastai's in any case (`PETS`), an http(s) URL, `s3://bucket/archive`,
    a local archive (.tgz, .tar, .tar.*, .zip) or folder, or `digits`. What the store has from
    the same source is used again without asking the network, unless `sha256` (64 hex digits)
    is another. Two runs at once share one download. Raises SettingsError or PlaceError before
    any work; FetchError; ChecksumError where the archive is not that of `sha256`; ArchiveError.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise SettingsError(f"sha256 {sha256!r}: not 64 hex digits; copy it again")
    expected = sha256.lower() if sha256 else None
    source = _find(dataset)
    if source.path and source.path.is_dir():
        if expected:
            raise SettingsError(f"{dataset}: a folder has no sha256; leave it out")
        return Dataset(source.name, source.path, source.text, None)
    home = _datasets(store)
    if source.path:
        return _unpacked(home, source, source.path, expected, limits)
    return _brought(home, source, expected, limits)


def fetched(name: str, source: str, sha256: str | None, store: str | Path) -> Path:
    """The folder of a dataset that was fetched before, as model.json tells of it; asks nobody.

    Raises PlaceError where it is there no more.
    """
    if sha256 is None:
        folder = Path(name_of(source))
        there = bool(source) and folder.is_dir()
    else:
        home = datasets(store)
        folder = home.path(f"{name}-{sha256[:8]}")
        there = _is_whole(home, folder.name, sha256)
    if not there:
        raise PlaceError(
            f"{text_of(str(folder))}: the images of {name} are not there any more; name the place "
            "where they are"
        )
    return folder


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


def _find(dataset: str) -> _Source:
    """What a person named. Raises SettingsError or PlaceError where there is no such thing."""
    if dataset == "digits":
        return _Source("digits", "digits", key="digits", bring=write_digits)
    if dataset.lower().startswith(("http://", "https://")):
        return _web(dataset)
    if not is_local(dataset):
        return _stored(dataset)
    path = os.path.abspath(cast(LocalPlace, place(dataset)).path())
    if os.path.isdir(path) or os.path.isfile(path):
        return _Source(_stem(path), text_of(path), Path(path))
    if re.fullmatch(r"\w+", dataset):
        return _web(fastai_url(dataset), dataset.lower())
    raise PlaceError(f"{dataset}: no such file or folder; check the path")


def _web(url: str, name: str = "") -> _Source:
    check_url(url)
    name = name or _stem(urlsplit(url).path)
    key = public_url(url) + urlsplit(url).query

    def bring(path: Path) -> None:
        # While it is unpacked, the archive and its content lie side by side: twice the room.
        download(url, path, room=2)
        try:
            check_answer(public_url(url), path)
        except ArchiveError:
            path.unlink()  # the next run must not meet it again
            raise

    return _Source(name, public_url(url), key=key, bring=bring)


def _stored(archive: str) -> _Source:
    """An archive in a place that is not on this machine, such as s3://."""
    if archive.count("/") < 3 or archive.endswith("/"):
        raise SettingsError(f"{archive}: name an archive in it, such as {archive}/pets.tgz")
    there, name = file_in(archive)

    def bring(path: Path) -> None:
        try:
            with (
                there.open_read(name) as file,
                LocalPlace(path.parent).open_write(path.name) as copy,
            ):
                shutil.copyfileobj(file, copy, 1 << 20)
        except FileNotFoundError as error:
            raise PlaceError(f"{archive}: no such archive; check its name") from error
        except OSError as error:
            raise FetchError(f"{archive}: {error.strerror or error}; run it again") from error

    return _Source(_stem(name), archive, key=archive, bring=bring)


def _stem(name: str) -> str:
    """A name for people and folders, from a path, a URL or a file's name."""
    stem = _ENDING.sub("", name.rstrip("/").rpartition("/")[2])
    return re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-.")[:60] or "dataset"


def _datasets(store: str | Path) -> LocalPlace:
    home = datasets(store)
    home.check_writable()
    return home


def datasets(store: str | Path) -> LocalPlace:
    """Where a store keeps its datasets on this machine."""
    # What is trained on is read many times over: of a store elsewhere it is kept in the cache.
    home = cast(LocalPlace, place(store)) if is_local(store) else cache()
    return LocalPlace(home.path("datasets").absolute())


def _brought(
    home: LocalPlace, source: _Source, expected: str | None, limits: UnpackLimits
) -> Dataset:
    """The dataset of a source: from the store if it is there, else brought and unpacked."""
    key = sha256_of(source.key.encode())[:32]
    note, packed = f".sources/{key}.json", f".archives/{key}"
    with _alone(home, key, source.text):
        known = json.loads(home.read(note)) if home.exists(note) else None
        if known and expected in (None, known["sha256"]) and _is_whole(home, **known):
            logger.info("%s: already in %s", source.text, home.path(known["folder"]))
            return Dataset(source.name, home.path(known["folder"]), source.text, known["sha256"])
        if not home.exists(packed):  # else a run brought it that found no room to unpack it
            assert source.bring, "what has no path is brought"
            source.bring(home.path(packed))
        try:
            dataset = _unpacked(home, source, home.path(packed), expected, limits)
        except (ArchiveError, ChecksumError):
            home.remove(packed)  # the next run must not meet it again
            raise
        _write_json(home, note, {"folder": dataset.folder.name, "sha256": dataset.sha256})
        home.remove(packed)  # all that it held is in the folder now, and disks are not endless
        return dataset


def _unpacked(
    home: LocalPlace, source: _Source, archive: Path, expected: str | None, limits: UnpackLimits
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


def _is_whole(home: LocalPlace, folder: str, sha256: str) -> bool:
    """Whether a folder holds all of the archive with this sha256: its record was written last."""
    record = f".records/{folder}.json"
    return (
        home.exists(folder)
        and home.exists(record)
        and json.loads(home.read(record))["sha256"] == sha256
    )


def _write_json(home: LocalPlace, name: str, content: dict[str, Any]) -> None:
    home.write(name, json.dumps(content, indent=2).encode())


def _digest(archive: Path) -> str:
    try:
        with archive.open("rb") as file:
            return sha256_of_file(file)
    except OSError as error:
        raise PlaceError(
            f"{archive}: cannot be read ({error.strerror}); give this user the right to"
        ) from error


@contextlib.contextmanager
def _alone(home: LocalPlace, name: str, what: str) -> Iterator[None]:
    """Keep other runs off one piece of the work, after theirs is done."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(home.lock(f".locks/{name}"))
        except LockedError:
            logger.info("%s: another run is fetching it; waiting for that", what)
            held.enter_context(home.lock(f".locks/{name}", wait=LONGEST_WAIT))
        yield
