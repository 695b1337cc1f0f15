"""Unpacking archives of every kind, and errors of the disk."""

import bz2
import gzip
import logging
import lzma
import os
import subprocess
import tarfile

import pytest
from archives import FILES, PHOTO, content_of, link, refused, special, tar_of, zip_of
from small_disk import small_disk

from visionflows.datasets.unpack import unpack
from visionflows.errors import StorageError


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(bytes, id="tar"),
        pytest.param(gzip.compress, id="tgz"),
        pytest.param(bz2.compress, id="tar.bz2"),
        pytest.param(lzma.compress, id="tar.xz"),
    ],
)
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_of_any_compression_is_unpacked(tmp_path, pack, format):
    (tmp_path / "a").write_bytes(pack(tar_of(*FILES.items(), format=format)))
    assert unpack(tmp_path / "a", tmp_path / "out") == (3, 10_000)
    assert content_of(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "after", [b"\n", bytes(512), bytes(100_000) + b"signed", b"\x1f", PHOTO, b"-" * 200_000]
)
@pytest.mark.parametrize("size", [1, 300])
def test_data_after_the_end_of_a_tgz_is_ignored(tmp_path, after, size, caplog):
    files = {f"{at}.jpg": PHOTO for at in range(size)}
    whole = tar_of(*files.items())
    halves = gzip.compress(whole[:4_000]) + gzip.compress(whole[4_000:])
    (tmp_path / "a.tgz").write_bytes(halves + after)
    assert unpack(tmp_path / "a.tgz", tmp_path / "out")[0] == size
    assert content_of(tmp_path / "out") == files
    assert ("a.tgz: trailing bytes after its end are ignored" in caplog.text) == bool(
        after.strip(b"\0")
    )


def test_absolute_names_are_unpacked_below_the_folder(tmp_path):
    first, other = ("/pets/1.jpg", PHOTO), special("/pets/2.jpg", tarfile.LNKTYPE, "/pets/1.jpg")
    (tmp_path / "a.tar").write_bytes(tar_of(first, other, ("//pets/3.jpg", PHOTO)))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert content_of(tmp_path / "out") == {f"pets/{at}.jpg": PHOTO for at in (1, 2, 3)}


def test_a_zip_is_unpacked(tmp_path):
    (tmp_path / "a").write_bytes(zip_of(("pets/", b""), *FILES.items()))
    assert unpack(tmp_path / "a", tmp_path / "out") == (3, 10_000)
    assert content_of(tmp_path / "out") == FILES


def test_an_archive_of_the_tar_command_is_unpacked(tmp_path):
    for name, content in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    os.link(tmp_path / "in/pets/Cat 1.jpg", tmp_path / "in/pets/same.jpg")
    os.symlink("Cat 1.jpg", tmp_path / "in/pets/round.jpg")
    subprocess.run(["tar", "czf", tmp_path / "a.tgz", "-C", tmp_path / "in", "."], check=True)
    unpack(tmp_path / "a.tgz", tmp_path / "out")
    assert content_of(tmp_path / "out") == {
        **FILES,
        **{"pets/same.jpg": PHOTO, "pets/round.jpg": PHOTO},
    }
    assert os.readlink(tmp_path / "out/pets/round.jpg") == "Cat 1.jpg"


def test_names_that_are_not_utf8_stay_as_they_are(tmp_path):
    name = os.fsdecode(b"pets/caf\xe9 \n,.jpg")
    (tmp_path / "a.tar").write_bytes(tar_of((name, PHOTO), format=tarfile.GNU_FORMAT))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert content_of(tmp_path / "out") == {name: PHOTO}


def test_modes_and_owners_are_those_of_the_user(tmp_path):
    info = tarfile.TarInfo("tool.jpg")
    info.mode, info.uid = 0o6777, 12345
    (tmp_path / "a.tar").write_bytes(tar_of(info))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    status = (tmp_path / "out/tool.jpg").stat()
    assert status.st_mode & 0o7111 == 0
    assert status.st_uid == os.getuid()


def test_the_later_of_two_entries_with_the_same_name_wins(tmp_path):
    same = special("b.jpg", tarfile.LNKTYPE, "a.jpg")
    (tmp_path / "a.tar").write_bytes(tar_of(("a.jpg", PHOTO), same, ("a.jpg", b"new")))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert content_of(tmp_path / "out") == {"a.jpg": b"new", "b.jpg": PHOTO}


def test_a_dangling_link_is_left_out(tmp_path, caplog):
    links = (link("gone.jpg", "nothing.jpg"), link("self", "self"))
    (tmp_path / "a.tar").write_bytes(tar_of(("a.jpg", PHOTO), *links))
    with caplog.at_level(logging.WARNING, "visionflows"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["a.jpg"]
    assert "as the link leads nowhere: 2, such as 'gone.jpg'" in caplog.text


def test_a_zip_with_a_wrong_size_is_refused(tmp_path):
    archive = zip_of(("a.jpg", bytes(70_000)))
    wrong, correct = (size.to_bytes(4, "little") for size in (70_001, 70_000))
    assert "holds 70,000 of its 70,001 bytes" in refused(
        tmp_path, archive.replace(correct, wrong), "bad.zip"
    )


def test_an_existing_folder_is_not_changed(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of(*FILES.items()))
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match="out: is there already"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_files_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of(*FILES.items()))
    (tmp_path / ".unpacking-out").mkdir()
    (tmp_path / ".unpacking-out/half.jpg").write_bytes(b"")
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "out"]


def test_a_too_small_disk_is_an_error_before_anything_is_written(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of(("a.jpg", bytes(2 << 20))))
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(StorageError, match=r"bytes are free, but unpacking .* takes 2,097,152"):
            unpack(tmp_path / "a.zip", disk / "out")
        assert os.listdir(disk) == []


def test_a_disk_that_fills_up_is_an_error_and_nothing_is_left(tmp_path):
    (tmp_path / "a.tgz").write_bytes(gzip.compress(tar_of(("a.jpg", bytes(2 << 20)))))
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(StorageError, match=r"disk: .*No space left on device.*free some space"):
            unpack(tmp_path / "a.tgz", disk / "out")
        assert os.listdir(disk) == []
