"""Malicious and truncated archives are refused, and no file of them is left."""

import gzip
import os
import random
import subprocess
import tarfile

import pytest
from archives import FILES, PHOTO, link, refused, special, tar_of, zip_of

from visionflows.datasets import archive_entries
from visionflows.datasets.unpack import unpack
from visionflows.errors import ArchiveError

HOSTILE = {
    "climbs out": [("../x", PHOTO)],
    "climbs out from below": [("a/../../x", PHOTO)],
    "climbs out from a slash": [("/../x", PHOTO)],
    "link out": [link("x", "../../outside")],
    "absolute link": [link("x", "/etc/passwd")],
    "write through a link": [link("x", "."), ("x/y.jpg", PHOTO)],
    "link through a link": [link("x", "."), link("x/y", "z"), ("z", PHOTO)],
    "link out by way of a link": [
        ("p/q/r/file", PHOTO),
        link("p/q/r/top", "../../.."),
        link("x", "p/q/r/top/.."),
    ],
    "device": [special("x", tarfile.CHRTYPE)],
    "pipe": [special("x", tarfile.FIFOTYPE)],
    "file under a file": [("x", PHOTO), ("x/y", PHOTO)],
    "folder over a file": [("x", PHOTO), special("x", tarfile.DIRTYPE)],
    "file over a folder": [("x/y", PHOTO), ("x", PHOTO)],
    "link over a file": [("x", PHOTO), link("x", "y")],
    "empty link": [link("x", "")],
    "link to a folder": [("x/y.jpg", PHOTO), link("z", "x")],
    "link to a link to a folder": [("x/y.jpg", PHOTO), link("a", "b"), link("b", "x")],
    "too deep": [("x/" * 60 + "y", PHOTO)],
}
ONLY_TAR = {
    "hard link out": [special("x", tarfile.LNKTYPE, "../../outside")],
    "absolute hard link": [special("x", tarfile.LNKTYPE, "/etc/passwd")],
    "hard link to nothing": [special("x", tarfile.LNKTYPE, "y")],
    "hard link to itself": [("x", PHOTO), special("x", tarfile.LNKTYPE, "x")],
    "absolute hard link of an absolute name": [special("/x", tarfile.LNKTYPE, "/etc/passwd")],
    "hard link to a link out": [link("x", "../outside"), special("y", tarfile.LNKTYPE, "x")],
}


@pytest.mark.parametrize(
    "entries", [*HOSTILE.values(), *ONLY_TAR.values()], ids=[*HOSTILE, *ONLY_TAR]
)
def test_a_hostile_tar_is_refused(tmp_path, entries):
    (tmp_path / "outside").write_bytes(b"precious")
    line = refused(tmp_path, gzip.compress(tar_of(*entries)))
    assert "the entry '" in line
    assert (tmp_path / "outside").read_bytes() == b"precious"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "folder over a file"])
def test_a_hostile_zip_is_refused(tmp_path, name):
    (tmp_path / "outside").write_bytes(b"precious")
    line = refused(tmp_path, zip_of(*HOSTILE[name]), "bad.zip")
    assert "the entry '" in line
    assert (tmp_path / "outside").read_bytes() == b"precious"


def test_the_error_names_the_entry_and_the_reason(tmp_path):
    line = refused(
        tmp_path, tar_of(("fine.jpg", PHOTO), ("../\n\udce9", PHOTO), format=tarfile.GNU_FORMAT)
    )
    assert line.endswith(
        r"bad.tgz: the entry '../\n\\xe9' lies outside the archive; nothing was unpacked; "
        "if you trust it, unpack it yourself and give the folder"
    )


def zeros(size: int) -> bytes:
    """A gzip file of `size` zeros, concatenated from many streams."""
    return gzip.compress(bytes(1 << 20)) * (size >> 20)


def test_a_bomb_of_one_file_is_refused_by_the_size_in_its_header(tmp_path):
    info = tarfile.TarInfo("bomb.jpg")
    info.size = 64 << 30
    line = refused(tmp_path, gzip.compress(info.tobuf()) + zeros(100 << 20))
    assert "over 100 times its size" in line


def test_a_bomb_of_many_files_is_refused_while_unpacking(tmp_path):
    piece = tarfile.TarInfo("x.jpg")
    piece.size = 1 << 20
    one = gzip.compress(piece.tobuf()) + zeros(1 << 20)
    assert "over 100 times" in refused(tmp_path, one * 80)


@pytest.mark.parametrize("type", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_in_a_header_is_not_loaded_into_memory(tmp_path, type):
    info = special("x", type)
    info.size = 1 << 30
    assert "a header of" in refused(tmp_path, gzip.compress(info.tobuf()) + zeros(8 << 20))


def test_a_bomb_after_the_end_of_the_tar_is_refused(tmp_path):
    archive = gzip.compress(tar_of(("a.jpg", PHOTO))) + zeros(80 << 20)
    assert "over 100 times" in refused(tmp_path, archive)


def test_a_zip_bomb_is_refused_before_it_is_written(tmp_path):
    content = bytes(20 << 20)
    archive = zip_of(*((f"{i}.jpg", content) for i in range(4)))
    assert "over 100 times" in refused(tmp_path, archive, "bad.zip")


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_limits_on_files_and_bytes_are_enforced(tmp_path, pack, monkeypatch):
    archive = pack(*FILES.items())
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    assert "'pets/empty.jpg' is over the limit of 2 files" in refused(
        tmp_path / "1", archive, MAX_FILES=2
    )
    assert "passes the limit of 9,999 bytes" in refused(tmp_path / "2", archive, MAX_BYTES=9_999)
    (tmp_path / "a").write_bytes(archive)
    monkeypatch.setattr(archive_entries, "MAX_FILES", 3)
    monkeypatch.setattr(archive_entries, "MAX_BYTES", 10_000)
    unpack(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("left", [0, 1, 300, 5_000, -5_000, -9, -1])
def test_a_truncated_tgz_is_refused(tmp_path, left):
    whole = gzip.compress(tar_of(*FILES.items()))
    assert "broken, cut short" in refused(tmp_path, whole[:left])


@pytest.mark.parametrize("left", [512, 700, 512 + 5120, 512 + 5120 + 100])
def test_a_tar_truncated_between_two_files_is_refused(tmp_path, left):
    assert "broken, cut short" in refused(tmp_path, tar_of(*FILES.items())[:left], "bad.tar")


def test_a_truncated_zip_is_refused(tmp_path):
    line = refused(tmp_path, zip_of(*FILES.items())[:-100], "bad.zip")
    assert "the end of the zip is missing; fetch it again or" in line


@pytest.mark.parametrize(
    "name, archive",
    [
        ("set.zip.001", zip_of(*FILES.items())[:5000]),
        ("set.zip.002", zip_of(*FILES.items())[5000:9000]),
        ("set.tgz.001", gzip.compress(tar_of(*FILES.items()))[:5000]),
    ],
)
def test_a_part_of_a_split_archive_is_named(tmp_path, name, archive):
    line = refused(tmp_path, archive, name)
    assert "part of a split archive, join the parts" in line or "a part of a split ar" in line
    assert line.endswith("cat set.zip.001 set.zip.002 … > set.zip")


def test_forty_levels_of_two_links_to_folders_are_refused_at_once(tmp_path):
    """A walk through them would list 2^41 paths."""
    levels = [link(f"{level}/{side}", f"../{level + 1}") for level in range(40) for side in "ab"]
    line = refused(tmp_path, gzip.compress(tar_of(*levels, ("40/cat.jpg", PHOTO))))
    assert "is a link to a folder" in line


def test_a_long_chain_of_links_leads_nowhere(tmp_path, caplog):
    """Each of n links was followed through all others: n squared."""
    chain = [link(f"{at}.jpg", f"{at + 1}.jpg") for at in range(500)]
    (tmp_path / "a.tar").write_bytes(tar_of(*chain, ("500.jpg", PHOTO)))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert len([*(tmp_path / "out").iterdir()]) < 50
    assert "left out, as the link leads nowhere: 4" in caplog.text


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_name_that_no_disk_takes_is_left_out_alone(tmp_path, pack, caplog):
    long = [("x" * 300 + ".jpg", PHOTO), (f"cat/{'é' * 200}.jpg", PHOTO)]
    (tmp_path / "a").write_bytes(pack(*long, ("cat/1.jpg", PHOTO), link("y" * 300, "cat/1.jpg")))
    assert unpack(tmp_path / "a", tmp_path / "out") == (1, len(PHOTO))
    assert [path.name for path in (tmp_path / "out").rglob("*.jpg")] == ["1.jpg"]
    assert "on this disk (File name too long): 3, such as 'xxx" in caplog.text


@pytest.mark.parametrize("type", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_the_error_of_a_large_header_says_so(tmp_path, type):
    info = special("x", type)
    info.size = 2 << 20
    line = refused(tmp_path, info.tobuf() + bytes(2 << 20) + tar_of(("a.jpg", PHOTO)), "bad.tar")
    assert "a header of 2,097,152 bytes (a name, link or attributes), over the limit" in line
    assert "fetch it again" not in line


def test_on_a_disk_that_ignores_case_the_second_of_two_names_is_left_out(
    tmp_path, caplog, monkeypatch
):
    (tmp_path / "a.tar").write_bytes(tar_of(("A.jpg", b"first"), ("a.jpg", b"other")))
    monkeypatch.setattr("visionflows.datasets.unpack._ignores_case", lambda folder: True)
    assert unpack(tmp_path / "a.tar", tmp_path / "out") == (1, 5)
    assert (tmp_path / "out/A.jpg").read_bytes() == b"first"
    assert "does not tell its name from another one's: 1, such as 'a.jpg'" in caplog.text


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 99, PHOTO])
def test_a_file_that_is_not_an_archive_is_refused(tmp_path, content):
    assert "no .tgz, .tar.* or .zip" in refused(tmp_path, content)


@pytest.mark.parametrize("pack", [tar_of, lambda *files: gzip.compress(tar_of(*files)), zip_of])
def test_any_damage_raises_our_error_and_leaves_nothing(tmp_path, pack):
    whole = pack(*FILES.items(), link("a", "pets"))
    rng = random.Random(3)
    archive = tmp_path / "a"
    errors = 0
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        archive.write_bytes(broken)
        try:
            unpack(archive, tmp_path / "out")
        except ArchiveError:
            errors += 1
            assert os.listdir(tmp_path) == ["a"]
        else:
            subprocess.run(["rm", "-r", tmp_path / "out"], check=True)
    assert errors > 20


def test_a_zip_entry_without_a_name_is_refused(tmp_path):
    archive = zip_of(("name.jpg", PHOTO)).replace(b"name.jpg", b"\0ame.jpg")
    assert refused(tmp_path, archive, "bad.zip")
