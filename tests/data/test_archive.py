"""Archives as they should be, and as people who mean harm, or bad lines, make them."""

import bz2
import gzip
import io
import logging
import lzma
import os
import random
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from small_disk import small_disk

from visionflows.data.archive import Unpacked, unpack
from visionflows.data.entries import UnpackLimits
from visionflows.errors import ArchiveError, PlaceError

PHOTO = random.Random(1).randbytes(5_000)
FILES = {"pets/Cat 1.jpg": PHOTO, "pets/sub/dog.jpg": PHOTO[::-1], "pets/empty.jpg": b""}


def tar_of(*entries: tarfile.TarInfo | tuple[str, bytes], format=tarfile.PAX_FORMAT) -> bytes:
    """A tar of files (name, content) and of entries as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for entry in entries:
            if isinstance(entry, tuple):
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
            else:
                tar.addfile(entry)
    return buffer.getvalue()


def special(name: str, type: bytes, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, linkname
    return info


def link(name: str, to: str) -> tarfile.TarInfo:
    return special(name, tarfile.SYMTYPE, to)


def zip_of(*entries: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """A zip of files (name, content), and of links and devices as Unix zips tell them."""
    modes = {tarfile.SYMTYPE: 0o120777, tarfile.CHRTYPE: 0o020666, tarfile.FIFOTYPE: 0o010666}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in entries:
            if isinstance(entry, tuple):
                packed.writestr(*entry)
            else:
                info = zipfile.ZipInfo(entry.name)
                info.create_system = 3
                info.external_attr = modes[entry.type] << 16
                packed.writestr(info, entry.linkname)
    return buffer.getvalue()


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(tmp_path: Path, archive: bytes, name: str = "bad.tgz", **limits) -> str:
    """The one line with which an archive is refused, after which nothing is left of it."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / name).write_bytes(archive)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArchiveError) as told:
        unpack(inside / name, inside / "out", UnpackLimits(**limits))
    assert sorted(tmp_path.rglob("*")) == before
    line = str(told.value)
    assert name in line
    assert "\n" not in line
    return line


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
def test_a_tar_is_unpacked_however_it_is_packed(tmp_path, pack, format):
    (tmp_path / "a").write_bytes(pack(tar_of(*FILES.items(), format=format)))
    assert unpack(tmp_path / "a", tmp_path / "out") == Unpacked(3, 10_000)
    assert content_of(tmp_path / "out") == FILES


def test_a_zip_is_unpacked(tmp_path):
    (tmp_path / "a").write_bytes(zip_of(("pets/", b""), *FILES.items()))
    assert unpack(tmp_path / "a", tmp_path / "out") == Unpacked(3, 10_000)
    assert content_of(tmp_path / "out") == FILES


def test_a_tar_of_the_system_is_unpacked(tmp_path):
    for name, content in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    os.link(tmp_path / "in/pets/Cat 1.jpg", tmp_path / "in/pets/same.jpg")
    os.symlink("../pets", tmp_path / "in/pets/round")
    subprocess.run(["tar", "czf", tmp_path / "a.tgz", "-C", tmp_path / "in", "."], check=True)
    unpack(tmp_path / "a.tgz", tmp_path / "out")
    assert content_of(tmp_path / "out") == {**FILES, "pets/same.jpg": PHOTO}
    assert os.readlink(tmp_path / "out/pets/round") == "../pets"


def test_names_that_are_not_utf8_stay_as_they_are(tmp_path):
    name = os.fsdecode(b"pets/caf\xe9 \n,.jpg")
    (tmp_path / "a.tar").write_bytes(tar_of((name, PHOTO), format=tarfile.GNU_FORMAT))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert content_of(tmp_path / "out") == {name: PHOTO}


def test_modes_and_owners_are_the_users_own(tmp_path):
    info = tarfile.TarInfo("tool.jpg")
    info.mode, info.uid = 0o6777, 12345
    (tmp_path / "a.tar").write_bytes(tar_of(info))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    status = (tmp_path / "out/tool.jpg").stat()
    assert status.st_mode & 0o7111 == 0
    assert status.st_uid == os.getuid()


def test_of_two_entries_with_one_name_the_later_holds(tmp_path):
    same = special("b.jpg", tarfile.LNKTYPE, "a.jpg")
    (tmp_path / "a.tar").write_bytes(tar_of(("a.jpg", PHOTO), same, ("a.jpg", b"new")))
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert content_of(tmp_path / "out") == {"a.jpg": b"new", "b.jpg": PHOTO}


def test_a_link_that_leads_nowhere_is_left_out(tmp_path, caplog):
    links = (link("gone.jpg", "nothing.jpg"), link("self", "self"))
    (tmp_path / "a.tar").write_bytes(tar_of(("a.jpg", PHOTO), *links))
    with caplog.at_level(logging.WARNING, "visionflows"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["a.jpg"]
    assert "'gone.jpg' leads nowhere" in caplog.text


HOSTILE = {
    "climbs out": [("../x", PHOTO)],
    "climbs out from below": [("a/../../x", PHOTO)],
    "absolute": [("/tmp/x", PHOTO)],
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
    "name too long": [("x" * 300, PHOTO)],
    "too deep": [("x/" * 60 + "y", PHOTO)],
}
ONLY_TAR = {
    "hard link out": [special("x", tarfile.LNKTYPE, "../../outside")],
    "absolute hard link": [special("x", tarfile.LNKTYPE, "/etc/passwd")],
    "hard link to nothing": [special("x", tarfile.LNKTYPE, "y")],
    "hard link to itself": [("x", PHOTO), special("x", tarfile.LNKTYPE, "x")],
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


def test_a_refusal_says_which_entry_and_why(tmp_path):
    line = refused(
        tmp_path, tar_of(("fine.jpg", PHOTO), ("../\n\udce9", PHOTO), format=tarfile.GNU_FORMAT)
    )
    assert line.endswith(
        r"bad.tgz: the entry '../\n\\xe9' lies outside the archive; nothing was unpacked"
    )


def zeros(size: int) -> bytes:
    """A gzip stream of `size` zeros, made of many streams, which are one."""
    return gzip.compress(bytes(1 << 20)) * (size >> 20)


def test_a_bomb_of_one_file_is_refused_by_what_its_header_says(tmp_path):
    info = tarfile.TarInfo("bomb.jpg")
    info.size = 64 << 30
    line = refused(tmp_path, gzip.compress(info.tobuf()) + zeros(100 << 20))
    assert "over 100 times its size" in line


def test_a_bomb_of_many_files_is_refused_on_the_way(tmp_path):
    piece = tarfile.TarInfo("x.jpg")
    piece.size = 1 << 20
    one = gzip.compress(piece.tobuf()) + zeros(1 << 20)
    assert "over 100 times" in refused(tmp_path, one * 80)


@pytest.mark.parametrize("type", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_in_a_header_does_not_reach_memory(tmp_path, type):
    info = special("x", type)
    info.size = 1 << 30
    assert "a header of" in refused(tmp_path, gzip.compress(info.tobuf()) + zeros(8 << 20))


def test_a_bomb_after_the_end_is_refused(tmp_path):
    archive = gzip.compress(tar_of(("a.jpg", PHOTO))) + zeros(80 << 20)
    assert "over 100 times" in refused(tmp_path, archive)


def test_a_zip_bomb_is_refused_before_it_is_written(tmp_path):
    content = bytes(20 << 20)
    archive = zip_of(*((f"{i}.jpg", content) for i in range(4)))
    assert "over 100 times" in refused(tmp_path, archive, "bad.zip")


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_limits_on_files_and_bytes_are_kept(tmp_path, pack):
    archive = pack(*FILES.items())
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    assert "'pets/empty.jpg' is over the limit of 2 files" in refused(
        tmp_path / "1", archive, files=2
    )
    assert "passes the limit of 9,999 bytes" in refused(tmp_path / "2", archive, bytes=9_999)
    (tmp_path / "a").write_bytes(archive)
    unpack(tmp_path / "a", tmp_path / "out", UnpackLimits(files=3, bytes=10_000))


@pytest.mark.parametrize("left", [0, 1, 300, 5_000, -5_000, -9, -1])
def test_a_tgz_that_is_cut_short_is_refused(tmp_path, left):
    whole = gzip.compress(tar_of(*FILES.items()))
    assert "broken, cut short" in refused(tmp_path, whole[:left])


@pytest.mark.parametrize("left", [512, 700, 512 + 5120, 512 + 5120 + 100])
def test_a_tar_that_is_cut_short_is_refused_even_between_two_files(tmp_path, left):
    assert "broken, cut short" in refused(tmp_path, tar_of(*FILES.items())[:left], "bad.tar")


def test_a_zip_that_is_cut_short_is_refused(tmp_path):
    assert "broken, cut short" in refused(tmp_path, zip_of(*FILES.items())[:-100], "bad.zip")


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path):
    archive = zip_of(("a.jpg", bytes(70_000)))
    said, true = (size.to_bytes(4, "little") for size in (70_001, 70_000))
    assert "holds 70,000 of its 70,001 bytes" in refused(
        tmp_path, archive.replace(true, said), "bad.zip"
    )


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 99, PHOTO])
def test_what_is_no_archive_is_refused(tmp_path, content):
    assert "no .tgz, .tar.* or .zip" in refused(tmp_path, content)


@pytest.mark.parametrize("pack", [tar_of, lambda *files: gzip.compress(tar_of(*files)), zip_of])
def test_whatever_is_broken_the_error_is_ours_and_nothing_is_left(tmp_path, pack):
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


def test_an_archive_that_is_not_there_is_told(tmp_path):
    with pytest.raises(PlaceError, match=r"cannot be read \(No such file"):
        unpack(tmp_path / "a.tgz", tmp_path / "out")


def test_a_folder_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of(*FILES.items()))
    (tmp_path / "out").mkdir()
    with pytest.raises(PlaceError, match="out: is there already"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of(*FILES.items()))
    (tmp_path / ".unpacking-out").mkdir()
    (tmp_path / ".unpacking-out/half.jpg").write_bytes(b"")
    unpack(tmp_path / "a.tar", tmp_path / "out")
    assert content_of(tmp_path / "out") == FILES
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "out"]


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of(("a.jpg", bytes(2 << 20))))
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(PlaceError, match=r"bytes are free, but unpacking .* takes 2,097,152"):
            unpack(tmp_path / "a.zip", disk / "out")
        assert os.listdir(disk) == []


def test_a_disk_that_fills_up_is_told_and_nothing_is_left(tmp_path):
    (tmp_path / "a.tgz").write_bytes(gzip.compress(tar_of(("a.jpg", bytes(2 << 20)))))
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(PlaceError, match=r"disk: .*No space left on device.*free some space"):
            unpack(tmp_path / "a.tgz", disk / "out")
        assert os.listdir(disk) == []


def test_a_zip_whose_entry_has_no_name_is_refused(tmp_path):
    archive = zip_of(("name.jpg", PHOTO)).replace(b"name.jpg", b"\0ame.jpg")
    assert refused(tmp_path, archive, "bad.zip")
