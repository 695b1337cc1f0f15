"""Errors for URLs that return no archive, and archives that contain no images."""

import hashlib
import io
import os
import zipfile

import pytest
from conftest import encoded, picture
from file_server import serving

from visionflows.datasets.content_sniffing import check_download
from visionflows.datasets.fetch import fetch
from visionflows.datasets.file_table import build_table
from visionflows.errors import ArchiveError, TableError


def zip_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in files.items():
            packed.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


PETS = zip_of(**{f"{'ab'[at % 2]}__{at}_png": encoded(picture(at), "PNG") for at in range(4)})
PAGE = b"<!DOCTYPE html><html><head><title>Sign in to Drive</title></head></html>"


@pytest.mark.parametrize(
    "response, message",
    [
        (PAGE, "answered with a web page (text/html, 'Sign in to Drive'), not with an archive; "),
        (
            b'{"error": "no"}',
            'answered with JSON ({"error": "no"}), not with an archive; open it in',
        ),
        (b"<Error/>", "answered with XML (<Error/>), not with an archive; "),
        (b"Too many requests", "answered with a text (Too many requests), "),
        (b"", "answered with nothing (0 bytes), not with an archive; "),
    ],
)
def test_an_unexpected_response_is_reported_and_downloaded_again(tmp_path, response, message):
    with serving(response) as server:
        url = server.url("pets.zip")
        with pytest.raises(ArchiveError) as error:
            fetch(f"{url}?key=secret", tmp_path)
        assert str(error.value).startswith(f"{url}?…: {message}")
        assert os.listdir(tmp_path / "datasets/.archives") == []
        server.content = PETS
        assert fetch(f"{url}?key=secret", tmp_path).sha256 == hashlib.sha256(PETS).hexdigest()


@pytest.mark.parametrize(
    "url, hint",
    [
        ("https://www.dropbox.com/s/x/pets.zip?…", "end the address in ?dl=1"),
        ("https://drive.google.com/file/d/1/view", "download the file there, and give that"),
        ("https://github.com/me/pets/blob/main/pets.zip", "add ?raw=true"),
        ("https://huggingface.co/datasets/me/pets/blob/main/pets.zip", "write /resolve/"),
        ("https://notdropbox.com/pets.zip", "if it wants a login"),
    ],
)
def test_the_error_has_a_hint_for_known_hosts(tmp_path, url, hint):
    (tmp_path / "download").write_bytes(PAGE)
    with pytest.raises(ArchiveError, match="web page") as error:
        check_download(url, tmp_path / "download")
    assert hint in str(error.value)


@pytest.mark.parametrize(
    "content",
    [PETS[:-99], b"Rar!\x1a\7\0", zip_of(a=b"")[:40]],
    ids=["no end", "rar", "torn"],
)
def test_the_error_of_a_bad_archive_names_its_url(tmp_path, content):
    with serving(content) as server, pytest.raises(ArchiveError) as error:
        fetch(server.url("pets.zip"), tmp_path)
    assert str(error.value).startswith(f"{server.url('pets.zip')}: ")
    assert ".archives" not in str(error.value)


def test_the_error_names_the_archives_inside_an_archive(tmp_path):
    nested = zip_of(test1_zip=PETS, train_zip=PETS, more__other_7z=b"", sample_csv=b"id,label\n")
    (tmp_path / "all.zip").write_bytes(nested)
    folder = fetch(str(tmp_path / "all.zip"), tmp_path / "store").folder
    with pytest.raises(TableError) as error:
        build_table(folder, "folder")
    assert str(error.value) == (
        f"{folder}: no image found, but holds 3 archives: train.zip, more/other.7z, test1.zip; "
        f"unpack and name one, or name it as it is: {folder}/train.zip"
    )
    inner = fetch(f"{folder}/train.zip", tmp_path / "store").folder
    assert set(build_table(inner, "folder").label) == {"a", "b"}


def test_the_error_names_the_archive_inside_a_folder(tmp_path):
    (tmp_path / "pets.zip").write_bytes(PETS)
    with pytest.raises(TableError, match=r"but holds an archive: pets\.zip; unpack"):
        build_table(tmp_path, "folder")
