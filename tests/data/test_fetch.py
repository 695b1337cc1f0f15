"""Datasets of every kind, brought over real lines, twice and by two at once.

Each into a store on the disk, and for a store in a bucket, whose datasets lie in the cache.
"""

import gzip
import hashlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, picture
from file_server import serving
from PIL import Image
from small_disk import small_disk

from visionflows.data.fetch import Dataset, UnpackLimits, fastai_url, fetch, write_digits
from visionflows.errors import ArchiveError, ChecksumError, FetchError, PlaceError, SettingsError
from visionflows.images.formats import is_image_name
from visionflows.places import place

FETCH = """
import logging, sys
from visionflows.data.fetch import fetch
logging.basicConfig(level=logging.INFO)
print(fetch(*sys.argv[1:]).folder)
"""


def pets(count: int = 20, seed: int = 0) -> dict[str, bytes]:
    """Photos in the layout and naming of the Oxford-IIIT Pet archive."""
    names = ("Abyssinian_1{}.jpg", "american_bulldog_1{}.jpg")
    return {
        f"oxford-iiit-pet/images/{names[index % 2].format(index)}": encoded(picture(seed + index))
        for index in range(count)
    }


def tgz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


PETS = pets()
ARCHIVE = tgz(PETS)
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def store(where, tmp_path) -> str:
    return where(tmp_path / "store")


@pytest.fixture
def home(where, tmp_path) -> Path:
    """Where the datasets of the store lie on the disk."""
    return tmp_path / ("store" if where is str else "cache") / "datasets"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def visible(home: Path) -> list[str]:
    """The datasets that a person sees in a store."""
    return place(home).names()


def pending(home: Path) -> list[str]:
    """The downloads on their way into a store."""
    return os.listdir(home / ".archives")


def test_a_url_becomes_a_folder_with_a_record(store, home):
    with serving(ARCHIVE) as server:
        dataset = fetch(server.url(), store)
    folder = home / f"pets-{SHA256[:8]}"
    assert dataset == Dataset("pets", folder, server.url(), SHA256)
    assert files_of(folder) == PETS
    assert [entry.name for entry in place(folder).walk(is_image_name)] == sorted(PETS)
    record = json.loads((home / f".records/{folder.name}.json").read_bytes())
    size = sum(map(len, PETS.values()))
    assert record == {"source": server.url(), "sha256": SHA256, "files": 20, "bytes": size}
    assert visible(home) == [folder.name]
    assert pending(home) == []


def test_a_line_cut_twice_in_mid_download_ends_whole_and_brings_no_byte_twice(store):
    third = len(ARCHIVE) // 3
    with serving(ARCHIVE, cuts=[third, 2 * third]) as server:
        dataset = fetch(server.url(), store, sha256=SHA256)
    assert dataset.sha256 == SHA256
    assert files_of(dataset.folder) == PETS
    assert server.ranges == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert server.sent == len(ARCHIVE)


def test_a_url_that_is_in_the_store_is_not_asked_for_again(store, caplog):
    with serving(ARCHIVE) as server:
        first = fetch(server.url(), store)
    caplog.set_level(logging.INFO, "visionflows")
    assert fetch(server.url(), store) == first
    assert fetch(server.url(), store, sha256=SHA256.upper()) == first
    assert f"already in {first.folder}" in caplog.text
    assert len(server.ranges) == 1


def test_another_sha256_is_a_reason_to_ask_again(store):
    newer = tgz(pets(seed=50))
    with serving(ARCHIVE) as server:
        old = fetch(server.url(), store)
        server.content = newer
        new = fetch(server.url(), store, sha256=hashlib.sha256(newer).hexdigest())
        assert fetch(server.url(), store) == new
    assert files_of(new.folder) == pets(seed=50)
    assert files_of(old.folder) == PETS
    assert len(server.ranges) == 2


def test_a_wrong_sha256_is_refused_and_leaves_nothing(store, home):
    with serving(ARCHIVE) as server:
        with pytest.raises(ChecksumError, match=f"its sha256 is {SHA256}, not {'0' * 64}") as told:
            fetch(server.url(), store, sha256="0" * 64)
        assert "\n" not in str(told.value)
        assert visible(home) == pending(home) == []
        assert fetch(server.url(), store).sha256 == SHA256


def test_a_folder_without_its_record_is_not_taken_for_whole(store, home):
    with serving(ARCHIVE) as server:
        dataset = fetch(server.url(), store)
        next(dataset.folder.rglob("*.jpg")).unlink()
        (home / f".records/{dataset.folder.name}.json").unlink()
        assert fetch(server.url(), store) == dataset
    assert files_of(dataset.folder) == PETS


def test_a_folder_that_was_deleted_comes_again(store):
    with serving(ARCHIVE) as server:
        dataset = fetch(server.url(), store)
        shutil.rmtree(dataset.folder)
        assert fetch(server.url(), store) == dataset
    assert files_of(dataset.folder) == PETS


def test_two_urls_of_one_archive_share_its_folder(store, home):
    with serving(ARCHIVE) as server:
        assert fetch(server.url("a/pets.tgz"), store) != fetch(server.url("b/pets.tgz"), store)
    assert visible(home) == [f"pets-{SHA256[:8]}"]


def test_queries_tell_urls_apart_and_are_not_written_down(store, home):
    with serving(ARCHIVE) as server:
        dataset = fetch(server.url("pets.tgz?secret=1").replace("//", "//me:mine@"), store)
        fetch(server.url("pets.tgz?secret=1"), store)
        fetch(server.url("pets.tgz?secret=2"), store)
    assert dataset.source == server.url("pets.tgz?…")
    assert len(server.ranges) == 2
    written = "".join(path.read_text() for path in home.rglob("*.json"))
    assert "secret" not in written
    assert "mine" not in written


def test_two_runs_at_once_share_one_download(store, home):
    one_waits = threading.Event()
    with serving(ARCHIVE, before_piece=lambda offset: one_waits.wait(60)) as server:
        command = [sys.executable, "-c", FETCH, server.url(), store]
        ours, theirs = os.pipe()
        runs = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True)
            for _ in range(2)
        ]
        os.close(theirs)
        with open(ours) as log:
            assert any("another run is fetching it; waiting" in line for line in log)
            one_waits.set()
            folders = {run.communicate(timeout=60)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert folders == {str(home / f"pets-{SHA256[:8]}")}
    assert files_of(Path(folders.pop())) == PETS
    assert len(server.ranges) == 1


def test_a_missing_url_is_told_in_one_line(store, home):
    refusal = pytest.raises(FetchError, match=r"pets.tgz: not found \(HTTP 404\)")
    with serving(ARCHIVE, answers=[(404, {})]) as server, refusal as told:
        fetch(server.url(), store)
    assert "\n" not in str(told.value)
    assert visible(home) == pending(home) == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ARCHIVE[:-500], id="cut"),
        pytest.param(b"<html>come back later</html>", id="page"),
        pytest.param(tgz({"../x.jpg": b""}), id="climbs out"),
        pytest.param(gzip.compress(bytes(80 << 20)), id="bomb"),
    ],
)
def test_a_bad_archive_is_refused_and_asked_for_again_next_time(store, home, content):
    with serving(content) as server:
        with pytest.raises(ArchiveError):
            fetch(server.url(), store)
        assert visible(home) == pending(home) == []
        server.content = ARCHIVE
        assert files_of(fetch(server.url(), store).folder) == PETS


def test_limits_reach_the_unpacking(store, where, tmp_path):
    (tmp_path / "a.tgz").write_bytes(ARCHIVE)
    with pytest.raises(ArchiveError, match="limit of 3 files"):
        fetch(where(tmp_path / "a.tgz"), store, limits=UnpackLimits(files=3))


def test_a_disk_without_room_is_told_before_the_download(tmp_path):
    # The download alone would fit, but not with what is unpacked from it beside it.
    with small_disk(tmp_path / "disk") as disk, serving(bytes(600 << 10)) as server:
        with pytest.raises(PlaceError, match="make room"):
            fetch(server.url(), disk)
        assert list(disk.rglob("*.part")) == []


def test_a_disk_that_fills_up_while_unpacking_keeps_the_download(tmp_path):
    archive = tgz({"pets/a.jpg": bytes(2 << 20)})
    with small_disk(tmp_path / "disk") as disk, serving(archive) as server:
        with pytest.raises(PlaceError, match="No space left on device"):
            fetch(server.url(), disk)
        assert visible(disk / "datasets") == []
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert len(files_of(fetch(server.url(), disk).folder)) == 1
    assert len(server.ranges) == 1


def test_a_local_archive_is_unpacked_once_by_its_content(store, home, tmp_path):
    (tmp_path / "My pets (1).TGZ").write_bytes(ARCHIVE)
    dataset = fetch(str(tmp_path / "My pets (1).TGZ"), store, sha256=SHA256)
    assert dataset == Dataset(
        "My-pets-1",
        home / f"My-pets-1-{SHA256[:8]}",
        str(tmp_path / "My pets (1).TGZ"),
        SHA256,
    )
    assert files_of(dataset.folder) == PETS
    before = dataset.folder.stat().st_ino
    fetch(f"file://{tmp_path}/My pets (1).TGZ", store)
    assert dataset.folder.stat().st_ino == before
    (tmp_path / "My pets (1).TGZ").write_bytes(tgz(pets(seed=50)))
    assert fetch(str(tmp_path / "My pets (1).TGZ"), store).folder != dataset.folder
    assert len(visible(home)) == 2


def test_an_archive_that_is_another_is_refused(store, where, tmp_path):
    (tmp_path / "a.tgz").write_bytes(ARCHIVE)
    with pytest.raises(ChecksumError):
        fetch(where(tmp_path / "a.tgz"), store, sha256="0" * 64)
    assert (tmp_path / "a.tgz").read_bytes() == ARCHIVE


def test_an_archive_of_a_place_is_fetched_once(store, home, where, tmp_path, caplog):
    (tmp_path / "pets.tgz").write_bytes(ARCHIVE)
    archive = where(tmp_path / "pets.tgz")
    first = fetch(archive, store)
    assert first == Dataset("pets", home / f"pets-{SHA256[:8]}", archive, SHA256)
    assert files_of(first.folder) == PETS
    caplog.set_level(logging.INFO, "visionflows")
    assert fetch(archive, store) == first
    assert f"already in {first.folder}" in caplog.text


def test_a_local_folder_stays_where_it_lies(store, home, tmp_path, monkeypatch):
    (tmp_path / "my photos").mkdir()
    monkeypatch.chdir(tmp_path)
    expected = Dataset("my-photos", tmp_path / "my photos", str(tmp_path / "my photos"), None)
    assert fetch("my photos/", store) == fetch("./my photos", store) == expected
    assert not home.exists()
    with pytest.raises(SettingsError, match="a folder has no sha256"):
        fetch("my photos", store, sha256=SHA256)


def test_the_real_photos_are_unpacked(shared_data, store):
    dataset = fetch(str(shared_data / "cats-dogs.tgz"), store)
    assert sum(1 for _ in place(dataset.folder).walk(is_image_name)) == 2_002


@pytest.mark.parametrize(
    "dataset, line",
    [
        ("./missing.tgz", "./missing.tgz: no such file or folder"),
        ("pets.tgz", "pets.tgz: no such file or folder"),
        ("/dev/null", "/dev/null: no such file or folder"),
    ],
)
def test_a_missing_dataset_is_told_before_any_work(store, home, dataset, line):
    with pytest.raises(PlaceError, match=line):
        fetch(dataset, store)
    assert not home.exists()


@pytest.mark.parametrize(
    "dataset, line",
    [
        ("", "an empty place"),
        ("ftp://host/x.tgz", "ftp:// is not a place"),
        ("ftp://host", "name an archive in it"),
        ("http://", "check the address"),
        ("PETZ", r"PETZ: no such file .* \(near: PETS.*one of fastai's"),
        ("qqqqqq", "near: PETS"),
    ],
)
def test_what_cannot_be_a_dataset_is_told_before_any_work(store, home, dataset, line):
    with pytest.raises(SettingsError, match=line) as told:
        fetch(dataset, store)
    assert "\n" not in str(told.value)
    assert not home.exists()


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, SHA256 + "0"])
def test_a_sha256_that_is_none_is_told_before_any_work(store, home, sha256):
    with pytest.raises(SettingsError, match="not 64 hex digits"):
        fetch("digits", store, sha256=sha256)
    assert not home.exists()


def test_a_store_that_cannot_be_written_is_told_before_any_work(tmp_path):
    (tmp_path / "store").write_bytes(b"a file")
    with serving(ARCHIVE) as server, pytest.raises(PlaceError, match="cannot be written"):
        fetch(server.url(), tmp_path / "store")
    assert server.ranges == []


def test_names_of_fastai_are_known_in_any_case():
    from fastai.data.external import URLs

    assert fastai_url("PETS") == fastai_url("pets") == URLs.PETS
    assert fastai_url("ml_100K") == URLs.ML_100k
    with pytest.raises(SettingsError):
        fastai_url("S3")  # an address in URLs, but no dataset


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Dataset:
    return fetch("digits", tmp_path_factory.mktemp("digits") / "store")


def test_digits_are_there_without_a_network(digits):
    from sklearn.datasets import load_digits

    original = load_digits()
    names = [entry.name for entry in place(digits.folder).walk()]
    assert len(names) == 1797
    for index in (0, 900, 1796):
        label = original.target[index]
        with Image.open(digits.folder / f"digits/{label}/{label}_{index:04}.png") as image:
            assert (image.size, image.mode) == ((32, 32), "L")
            shrunk = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float) / 255 * 16
        assert np.abs(shrunk - original.images[index]).mean() < 1
    assert digits.source == digits.name == "digits"


def test_digits_are_the_same_bytes_each_time(digits, tmp_path):
    write_digits(tmp_path / "again.tgz")
    assert hashlib.sha256((tmp_path / "again.tgz").read_bytes()).hexdigest() == digits.sha256
