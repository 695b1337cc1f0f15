"""Dataset sources: local archives and folders, archives in a bucket, fastai's names.

Each test runs with a store on the disk and with a store in a bucket, whose datasets are cached.
"""

import logging

import pytest
from file_server import serving
from pet_archives import ARCHIVE, PETS, SHA256, files_of, pets, tgz, visible
from unprivileged import reachable_folder, unprivileged

from visionflows.datasets.fetch import Dataset, fetch
from visionflows.datasets.sources import fastai_url
from visionflows.errors import ChecksumError, SettingsError, StorageError
from visionflows.images.formats import is_image_name
from visionflows.storage import open_storage

pytest_plugins = ["pet_archives"]


def test_a_local_archive_is_unpacked_once_per_content(store, home, tmp_path):
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


def test_an_archive_with_another_sha256_is_refused(store, where, tmp_path):
    (tmp_path / "a.tgz").write_bytes(ARCHIVE)
    with pytest.raises(ChecksumError):
        fetch(where(tmp_path / "a.tgz"), store, sha256="0" * 64)
    assert (tmp_path / "a.tgz").read_bytes() == ARCHIVE


def test_an_archive_in_a_bucket_is_fetched_once(store, home, where, tmp_path, caplog):
    (tmp_path / "pets.tgz").write_bytes(ARCHIVE)
    archive = where(tmp_path / "pets.tgz")
    first = fetch(archive, store)
    assert first == Dataset("pets", home / f"pets-{SHA256[:8]}", archive, SHA256)
    assert files_of(first.folder) == PETS
    caplog.set_level(logging.INFO, "visionflows")
    assert fetch(archive, store) == first
    assert f"already in {first.folder}" in caplog.text


def test_a_local_folder_is_used_in_place(store, home, tmp_path, monkeypatch):
    (tmp_path / "my photos").mkdir()
    monkeypatch.chdir(tmp_path)
    expected = Dataset("my-photos", tmp_path / "my photos", str(tmp_path / "my photos"), None)
    assert fetch("my photos/", store) == fetch("./my photos", store) == expected
    assert not home.exists()
    with pytest.raises(SettingsError, match="a folder has no sha256"):
        fetch("my photos", store, sha256=SHA256)


def test_the_real_photos_are_unpacked(shared_data, store):
    dataset = fetch(str(shared_data / "cats-dogs.tgz"), store)
    assert sum(1 for _ in open_storage(dataset.folder).walk(is_image_name)) == 2_002


@pytest.mark.parametrize(
    "dataset, line",
    [
        ("./missing.tgz", "./missing.tgz: no such file or folder"),
        ("pets.tgz", "pets.tgz: no such file or folder"),
        ("/dev/null", "/dev/null: no such file or folder"),
    ],
)
def test_a_missing_dataset_is_an_error_before_any_work(store, home, dataset, line):
    with pytest.raises(StorageError, match=line):
        fetch(dataset, store)
    assert not home.exists()


@pytest.mark.parametrize(
    "dataset, line",
    [
        ("", "the location is empty"),
        ("ftp://host/x.tgz", "ftp:// is not supported"),
        ("ftp://host", "ftp:// is not supported"),
        ("http://", "check the address"),
        ("PETZ", r"PETZ: no such file .* \(near: PETS.*one of fastai's"),
        ("qqqqqq", "near: PETS"),
    ],
)
def test_an_invalid_source_is_an_error_before_any_work(store, home, dataset, line):
    with pytest.raises(SettingsError, match=line) as error:
        fetch(dataset, store)
    assert "\n" not in str(error.value)
    assert not home.exists()


def test_an_unreadable_archive_is_an_error():
    with reachable_folder() as folder:
        (folder / "a.tgz").write_bytes(ARCHIVE)
        (folder / "a.tgz").chmod(0)

        def read() -> str:
            with pytest.raises(StorageError) as error:
                fetch(folder / "a.tgz", folder / "store")
            return str(error.value)

        assert "a.tgz: cannot be read (Permission denied); give" in unprivileged(read)


@pytest.mark.parametrize(
    "sha256", ["", "abc", "g" * 64, SHA256 + "0"], ids=["empty", "short", "no hex", "long"]
)
def test_an_invalid_sha256_is_an_error_before_any_work(store, home, sha256):
    with pytest.raises(SettingsError, match="not 64 hex digits"):
        fetch("digits", store, sha256=sha256)
    assert not home.exists()


def test_an_unwritable_store_is_an_error_before_any_work(tmp_path):
    (tmp_path / "store").write_bytes(b"a file")
    with serving(ARCHIVE) as server, pytest.raises(StorageError, match="cannot be written"):
        fetch(server.url(), tmp_path / "store")
    assert server.ranges == []


def test_names_of_fastai_are_known_in_any_case():
    from fastai.data.external import URLs

    assert fastai_url("PETS") == fastai_url("pets") == URLs.PETS
    assert fastai_url("ml_100K") == URLs.ML_100k
    with pytest.raises(SettingsError):
        fastai_url("S3")  # an address in URLs, but no dataset
