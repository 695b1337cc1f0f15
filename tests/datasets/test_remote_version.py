"""Remote archives are checked once per fetch and downloaded again only if they changed."""

import hashlib
import json
import logging
from pathlib import Path

import pytest
from file_server import serving
from pet_archives import ARCHIVE, PETS, SHA256, files_of, pending, pets, tgz, visible
from small_disk import small_disk

from visionflows.datasets.fetch import fetch
from visionflows.errors import StorageError
from visionflows.storage import open_storage

pytest_plugins = ["pet_archives"]
NEWER = tgz(pets(seed=50))


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO, "visionflows")
    return caplog


def note_of(home: Path) -> Path:
    (note,) = (home / ".sources").iterdir()
    return note


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"tag": '"v2"'}, id="etag"),
        pytest.param({"tag": 'W/"v2"'}, id="weak"),
        pytest.param({"tag": "", "modified": "Fri, 02 Jan 2026 00:00:00 GMT"}, id="modified"),
        pytest.param({"tag": '"v1"'}, id="size"),
        pytest.param({"tag": '"v2"', "tells_length": False}, id="no length"),
    ],
)
@pytest.mark.parametrize("knows_head", [True, False])
def test_an_archive_that_changed_at_its_url_is_downloaded_again(
    store, home, log, headers, knows_head
):
    first = {**headers, "modified": headers.get("modified") and "Thu, 01 Jan 2026 00:00:00 GMT"}
    first["tag"] = headers["tag"].replace("2", "1")
    with serving(ARCHIVE, knows_head=knows_head, **first) as server:
        old = fetch(server.url(), store)
        assert fetch(server.url(), store) == old
        assert server.sent == len(ARCHIVE) if knows_head else server.sent >= len(ARCHIVE)
        assert "has changed" not in log.text
        server.content = NEWER
        for name, value in headers.items():
            setattr(server, name, value)
        new = fetch(server.url(), store)
        assert fetch(server.url(), store) == new
    assert files_of(new.folder) == pets(seed=50)
    assert files_of(old.folder) == PETS
    assert f"{server.url()}: has changed since it was fetched; fetching again" in log.text
    assert len(visible(home)) == 2
    assert pending(home) == []


def test_an_archive_that_changed_in_its_bucket_is_downloaded_again(s3, tmp_path, log):
    archive = s3.uri(tmp_path / "in/pets.tgz")
    there = open_storage(archive.rpartition("/")[0])
    there.write("pets.tgz", ARCHIVE)
    old = fetch(archive, tmp_path / "store")
    assert fetch(archive, tmp_path / "store") == old
    assert "has changed" not in log.text
    there.write("pets.tgz", NEWER)
    new = fetch(archive, tmp_path / "store")
    assert files_of(new.folder) == pets(seed=50)
    assert f"{archive}: has changed since it was fetched" in log.text
    assert fetch(archive, tmp_path / "store") == new


@pytest.mark.parametrize("code", [0, 404, 503])
def test_the_fetched_archive_is_used_with_a_warning_if_the_url_does_not_respond(store, log, code):
    with serving(ARCHIVE) as server:
        first = fetch(server.url(), store)
        server.knows_head, server.answers = False, [(code, {})]
        if code:
            assert fetch(server.url(), store) == first
    if not code:
        assert fetch(server.url(), store) == first
    (warning,) = (record for record in log.records if record.levelname == "WARNING")
    assert warning.getMessage().startswith(
        f"{server.url()}: could not be asked whether it has changed ("
    )
    assert f"used as it was fetched: {first.folder}" in warning.getMessage()
    assert code == 0 or f"(HTTP {code})" in warning.getMessage()


def test_the_fetched_archive_is_used_if_it_is_gone_from_its_bucket(s3, tmp_path, log):
    (tmp_path / "pets.tgz").write_bytes(ARCHIVE)
    archive = s3.uri(tmp_path / "pets.tgz")
    first = fetch(archive, tmp_path / "store")
    open_storage(archive.rpartition("/")[0]).remove("pets.tgz")
    assert fetch(archive, tmp_path / "store") == first
    assert "could not be asked whether it has changed" in log.text


def test_a_known_sha256_sends_no_request(store):
    with serving(ARCHIVE) as server:
        first = fetch(server.url(), store, sha256=SHA256)
        server.content, server.tag = NEWER, '"v2"'
        assert fetch(server.url(), store, sha256=SHA256) == first
        assert server.heads == 0
        assert len(server.ranges) == 1


def test_a_note_without_a_version_is_updated_from_the_server(store, home, log):
    with serving(ARCHIVE) as server:
        first = fetch(server.url(), store)
        note = note_of(home)
        known = json.loads(note.read_text())
        assert known == {
            "folder": first.folder.name,
            "sha256": SHA256,
            "tag": '"v1"',
            "size": len(ARCHIVE),
        }
        note.write_text(json.dumps({**known, "tag": "", "size": 0}))
        assert fetch(server.url(), store) == first
        assert f"nothing shows whether it has changed; used as it was fetched: {first.folder}" in (
            log.text
        )
        assert json.loads(note.read_text()) == known
        server.content, server.tag = NEWER, '"v2"'
        assert fetch(server.url(), store) != first


def test_an_archive_without_a_version_counts_as_unchanged(store, log):
    with serving(ARCHIVE, tag="", tells_length=False) as server:
        first = fetch(server.url(), store)
        assert fetch(server.url(), store) == first
    assert "nothing shows whether it has changed" in log.text
    assert "remove that to fetch it again" in log.text


def test_an_archive_that_did_not_fit_is_downloaded_again_if_it_changed(tmp_path):
    large, small = tgz({"pets/a.jpg": bytes(2 << 20)}), tgz(pets(2))
    with small_disk(tmp_path / "disk") as disk, serving(large) as server:
        with pytest.raises(StorageError, match="No space left on device"):
            fetch(server.url(), disk)
        server.content, server.tag = small, '"v2"'
        dataset = fetch(server.url(), disk)
        assert files_of(dataset.folder) == pets(2)
        assert dataset.sha256 == hashlib.sha256(small).hexdigest()
        assert pending(disk / "datasets") == []
