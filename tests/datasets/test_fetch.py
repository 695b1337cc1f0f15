"""Fetching datasets over HTTP: once, again, and from two runs at once.

Each test runs with a store on the disk and with a store in a bucket, whose datasets are cached.
"""

import gzip
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from file_server import serving
from pet_archives import ARCHIVE, PETS, SHA256, files_of, pending, pets, tgz, visible
from small_disk import small_disk

from visionflows.datasets.fetch import Dataset, fetch, find_dataset
from visionflows.errors import ArchiveError, ChecksumError, FetchError, StorageError
from visionflows.images.formats import is_image_name
from visionflows.storage import open_storage

pytest_plugins = ["pet_archives"]
FETCH = """
import logging, sys
from visionflows.datasets.fetch import fetch
logging.basicConfig(level=logging.INFO)
print(fetch(*sys.argv[1:]).folder)
"""


def test_a_url_becomes_a_folder_with_a_record(store, home):
    with serving(ARCHIVE) as server:
        dataset = fetch(server.url(), store)
    folder = home / f"pets-{SHA256[:8]}"
    assert dataset == Dataset("pets", folder, server.url(), SHA256)
    assert files_of(folder) == PETS
    assert [entry.name for entry in open_storage(folder).walk(is_image_name)] == sorted(PETS)
    record = json.loads((home / f".records/{folder.name}.json").read_bytes())
    size = sum(map(len, PETS.values()))
    assert record == {"source": server.url(), "sha256": SHA256, "files": 20, "bytes": size}
    assert visible(home) == [folder.name]
    assert pending(home) == []


def test_a_download_with_two_broken_connections_is_complete_and_repeats_no_byte(store):
    third = len(ARCHIVE) // 3
    with serving(ARCHIVE, cuts=[third, 2 * third]) as server:
        dataset = fetch(server.url(), store, sha256=SHA256)
    assert dataset.sha256 == SHA256
    assert files_of(dataset.folder) == PETS
    assert server.ranges == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert server.sent == len(ARCHIVE)


def test_a_url_in_the_store_is_not_downloaded_again(store, caplog):
    with serving(ARCHIVE) as server:
        first = fetch(server.url(), store)
    caplog.set_level(logging.INFO, "visionflows")
    assert fetch(server.url(), store) == first
    assert fetch(server.url(), store, sha256=SHA256.upper()) == first
    assert f"already in {first.folder}" in caplog.text
    assert len(server.ranges) == 1


def test_a_fetched_dataset_is_found_without_its_source(store, tmp_path):
    with serving(ARCHIVE) as server:
        there = fetch(server.url(), store)
    arguments = (there.name, there.source, there.sha256, store)
    assert find_dataset(*arguments) == there.folder
    shutil.rmtree(there.folder)
    with pytest.raises(StorageError, match="the images of pets are no longer there"):
        find_dataset(*arguments)
    folder = fetch(str(tmp_path), store)
    assert find_dataset(folder.name, folder.source, None, store) == folder.folder == tmp_path
    with pytest.raises(StorageError, match="nowhere: the images of nowhere are no longer there"):
        find_dataset("nowhere", str(tmp_path / "nowhere"), None, store)


def test_another_sha256_downloads_again(store):
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
        with pytest.raises(ChecksumError, match=f"its sha256 is {SHA256}, not {'0' * 64}") as error:
            fetch(server.url(), store, sha256="0" * 64)
        assert "\n" not in str(error.value)
        assert visible(home) == pending(home) == []
        assert fetch(server.url(), store).sha256 == SHA256


def test_a_folder_without_a_record_is_incomplete(store, home):
    with serving(ARCHIVE) as server:
        dataset = fetch(server.url(), store)
        next(dataset.folder.rglob("*.jpg")).unlink()
        (home / f".records/{dataset.folder.name}.json").unlink()
        assert fetch(server.url(), store) == dataset
    assert files_of(dataset.folder) == PETS


def test_a_deleted_folder_is_fetched_again(store):
    with serving(ARCHIVE) as server:
        dataset = fetch(server.url(), store)
        shutil.rmtree(dataset.folder)
        assert fetch(server.url(), store) == dataset
    assert files_of(dataset.folder) == PETS


def test_two_urls_of_one_archive_share_its_folder(store, home):
    with serving(ARCHIVE) as server:
        assert fetch(server.url("a/pets.tgz"), store) != fetch(server.url("b/pets.tgz"), store)
    assert visible(home) == [f"pets-{SHA256[:8]}"]


def test_urls_differ_by_their_query_which_is_not_stored(store, home):
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
        with open(ours, encoding="utf-8") as log:
            assert any("another run is fetching it; waiting" in line for line in log)
            one_waits.set()
            folders = {run.communicate(timeout=60)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert folders == {str(home / f"pets-{SHA256[:8]}")}
    assert files_of(Path(folders.pop())) == PETS
    assert len(server.ranges) == 1


def test_a_missing_url_is_an_error_of_one_line(store, home):
    refusal = pytest.raises(FetchError, match=r"pets.tgz: not found \(HTTP 404\)")
    with serving(ARCHIVE, answers=[(404, {})]) as server, refusal as error:
        fetch(server.url(), store)
    assert "\n" not in str(error.value)
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
def test_a_bad_archive_is_refused_and_downloaded_again_next_time(store, home, content):
    with serving(content) as server:
        with pytest.raises(ArchiveError):
            fetch(server.url(), store)
        assert visible(home) == pending(home) == []
        server.content = ARCHIVE
        assert files_of(fetch(server.url(), store).folder) == PETS


def test_a_disk_without_space_is_an_error_before_the_download(tmp_path):
    # The archive would fit, but not together with its unpacked files.
    with small_disk(tmp_path / "disk") as disk, serving(bytes(600 << 10)) as server:
        with pytest.raises(StorageError, match="make room"):
            fetch(server.url(), disk)
        assert list(disk.rglob("*.part")) == []


def test_a_disk_that_fills_up_while_unpacking_keeps_the_archive(tmp_path):
    archive = tgz({"pets/a.jpg": bytes(2 << 20)})
    with small_disk(tmp_path / "disk") as disk, serving(archive) as server:
        with pytest.raises(StorageError, match="No space left on device"):
            fetch(server.url(), disk)
        assert visible(disk / "datasets") == []
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        assert len(files_of(fetch(server.url(), disk).folder)) == 1
    assert len(server.ranges) == 1
