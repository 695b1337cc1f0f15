"""Archives with names from other systems, with a password, of other kinds, or not archives."""

import io
import random
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest

from visionflows.datasets.archive_entries import zstd
from visionflows.datasets.unpack import unpack
from visionflows.errors import ArchiveError

PHOTO = random.Random(2).randbytes(3_000)
DOS, UNIX, NTFS = 0, 3, 10


def raw_zip(
    *names: bytes, made_by: int = UNIX, flags: int = 0, extra: bytes = b"", method=0
) -> bytes:
    """A zip of PHOTO under names of any bytes, like those of other systems."""
    out, central = b"", b""
    for name in names:
        sizes = (zlib.crc32(PHOTO), len(PHOTO), len(PHOTO), len(name), len(extra))
        head = struct.pack("<HHHHHIIIHH", 20, flags, method, 0, 0x5A21, *sizes)
        version = struct.pack("<BB", 20, made_by)
        storage = struct.pack("<HHHII", 0, 0, 0, 0, len(out))
        central += b"PK\1\2" + version + head + storage + name + extra
        out += b"PK\3\4" + head + name + extra + PHOTO
    counts = (len(names), len(names), len(central), len(out), 0)
    return out + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, *counts)


def tar_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(PHOTO)
            tar.addfile(info, io.BytesIO(PHOTO))
    return buffer.getvalue()


def names_of(tmp_path: Path, archive: bytes) -> list[str]:
    (tmp_path / "a.zip").write_bytes(archive)
    unpack(tmp_path / "a.zip", tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert all(path.read_bytes() == PHOTO for path in files)
    return sorted(path.relative_to(tmp_path / "out").as_posix() for path in files)


def refused(tmp_path: Path, archive: bytes, name: str = "a.zip") -> str:
    """The error message of an archive that cannot be unpacked; nothing of it is left."""
    (tmp_path / name).write_bytes(archive)
    with pytest.raises(ArchiveError) as error:
        unpack(tmp_path / name, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    line = str(error.value)
    assert line.startswith(f"{tmp_path / name}: ")
    assert line.isprintable()
    return line.removeprefix(f"{tmp_path / name}: ")


# Names in a zip


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("made_by", [DOS, UNIX])
def test_names_without_the_utf8_flag_are_utf8_if_valid(tmp_path, form, made_by, caplog):
    name = unicodedata.normalize(form, "photos/café/犬.png")
    assert names_of(tmp_path, raw_zip(name.encode(), made_by=made_by)) == [name]
    assert caplog.text == ""


def test_other_names_are_cp437_and_logged(tmp_path, caplog):
    archive = raw_zip("été/1.png".encode("cp437"), b"plain.png", made_by=DOS)
    assert names_of(tmp_path, archive) == ["plain.png", "été/1.png"]
    assert "not UTF-8, taken for DOS's code page 437: 1, such as 'été/1.png'" in caplog.text


@pytest.mark.parametrize("encoding", ["shift_jis", "gb18030"])
def test_other_readings_of_names_are_offered(tmp_path, encoding, caplog):
    names_of(
        tmp_path, raw_zip("犬/1.png".encode(encoding), "狗/1.png".encode(encoding), made_by=DOS)
    )
    assert f"'犬/1.png' in {encoding}" in caplog.text
    assert "unpack it with unzip -O ENCODING and give the folder" in caplog.text


@pytest.mark.parametrize("before", [b"junk", b"MZ\x90\0" + bytes(5000), b"HTTP/1.1 200 OK\r\n\r\n"])
def test_bytes_before_a_zip_are_ignored(tmp_path, before, caplog):
    assert names_of(tmp_path, before + raw_zip(b"cat/1.png")) == ["cat/1.png"]
    assert "a zip after other bytes, which are ignored" in caplog.text


def unicode_path(raw: bytes, name: str) -> bytes:
    field = struct.pack("<BI", 1, zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x5455, 1) + b"x" + struct.pack("<HH", 0x7075, len(field)) + field


def test_the_unicode_path_field_replaces_the_name(tmp_path, caplog):
    raw = "кот/1.png".encode("cp866")
    archive = raw_zip(raw, made_by=DOS, extra=unicode_path(raw, "кот/1.png"))
    assert names_of(tmp_path, archive) == ["кот/1.png"]
    assert caplog.text == ""


def test_the_unicode_path_field_of_another_entry_is_ignored(tmp_path):
    raw = "été.png".encode("cp437")
    archive = raw_zip(raw, made_by=DOS, extra=unicode_path(b"other", "no.png"))
    assert names_of(tmp_path, archive) == ["été.png"]


@pytest.mark.parametrize("made_by", [DOS, NTFS, UNIX])
def test_backslashes_separate_folders_in_zips_without_slashes(tmp_path, made_by):
    archive = raw_zip(rb"set\black\0.png", rb"set\white\0.png", made_by=made_by)
    assert names_of(tmp_path, archive) == ["set/black/0.png", "set/white/0.png"]


def test_folders_may_end_in_a_backslash(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("set\\black\\", b"")
        packed.writestr("set\\black\\0.png", PHOTO)
    assert unpack(tmp_path / "a.zip", tmp_path / "out") == (1, len(PHOTO))
    assert (tmp_path / "out/set/black/0.png").read_bytes() == PHOTO


def test_a_backslash_in_a_unix_name_stays(tmp_path):
    assert names_of(tmp_path, raw_zip(rb"set/a\b.png")) == ["set/a\\b.png"]
    (tmp_path / "windows").mkdir()
    archive = raw_zip(rb"set/a\b.png", made_by=DOS)
    assert names_of(tmp_path / "windows", archive) == ["set/a/b.png"]


@pytest.mark.parametrize("made_by", [DOS, UNIX])
@pytest.mark.parametrize("name", [rb"\set\x.png", rb"\\set\x.png", b"/set/x.png", b"//set/x.png"])
def test_a_leading_slash_is_ignored(tmp_path, name, made_by):
    assert names_of(tmp_path, raw_zip(name, made_by=made_by)) == ["set/x.png"]


@pytest.mark.parametrize("attributes", [0o040755 << 16 | 0x10, 0o040755 << 16, 0x10])
def test_a_folder_without_a_trailing_slash_is_a_folder(tmp_path, attributes):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        folder = zipfile.ZipInfo("set")
        folder.external_attr = attributes
        packed.writestr(folder, b"")
        packed.writestr("set/0.png", PHOTO)
    assert unpack(tmp_path / "a.zip", tmp_path / "out") == (1, len(PHOTO))
    assert (tmp_path / "out/set/0.png").read_bytes() == PHOTO


@pytest.mark.parametrize("name", [rb"..\x.png", rb"a\..\..\x.png", rb"\..\x.png"])
def test_backslashes_cannot_leave_the_folder(tmp_path, name):
    assert "nothing was unpacked" in refused(tmp_path, raw_zip(name, made_by=DOS))


# Zips that cannot be read here


def test_the_error_says_that_a_zip_has_a_password(tmp_path):
    line = refused(tmp_path, raw_zip(b"a.png", flags=0x1))
    assert line == "locked with a password; unpack it yourself, give the folder"
    assert "locked with a password" in refused(tmp_path, raw_zip(b"a.png", flags=0x1, method=99))


def test_the_error_names_the_compression_method_of_a_zip(tmp_path):
    assert refused(tmp_path, raw_zip(b"a.png", method=9)).startswith("packed with deflate64, which")


# Other kinds of archives


@pytest.mark.parametrize("level", [1, 19])
def test_a_tar_zst_is_unpacked(tmp_path, level):
    (tmp_path / "a.tar.zst").write_bytes(zstd.compress(tar_of("a/1.png", "b/2.png"), level=level))
    assert unpack(tmp_path / "a.tar.zst", tmp_path / "out") == (2, 2 * len(PHOTO))


@pytest.mark.parametrize("left", [4, 100, 2_000, -300, -4, -1])
def test_a_truncated_tar_zst_is_refused(tmp_path, left):
    options = {zstd.CompressionParameter.checksum_flag: 1}
    archive = zstd.compress(tar_of("a/1.png"), options=options)
    assert "broken, cut short" in refused(tmp_path, archive[:left], "a.tar.zst")


def test_a_zstd_bomb_is_refused(tmp_path):
    archive = zstd.compress(tar_of("a/1.png")) + zstd.compress(bytes(1 << 20)) * 80
    line = refused(tmp_path, archive, "a.tar.zst")
    assert line == (
        "unpacks to over 100 times its size, as bombs do; nothing was unpacked; if you trust it, "
        "unpack it yourself and give the folder"
    )


@pytest.mark.parametrize(
    "start, says",
    [
        (
            b"Rar!\x1a\7\1\0",
            "a RAR archive, no .tgz, .tar.* or .zip; unpack it and give the folder",
        ),
        (b"Rar!\x1a\7\0", "a RAR archive, "),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive, "),
        (b"PK\7\x08PK\3\4", "the first part of a split zip, "),
        (b"\x04\x22\x4d\x18", "an lz4 file, "),
        (b"\xff\xd8\xff\xe0", "a picture (JPEG), no .tgz, .tar.* or .zip; give the folder that it"),
        (b"RIFF1234WEBPVP8 ", "a picture (WEBP), "),
        (b"%PDF-1.7\n", "a PDF, "),
        (b"PAR1", "a Parquet table, "),
        (b"MZ\x90\0", "a Windows program, "),
    ],
)
def test_the_error_names_the_kind_of_an_unsupported_file(tmp_path, start, says):
    assert refused(tmp_path, start + PHOTO).startswith(says)


@pytest.mark.parametrize(
    "text, says",
    [
        (
            b"<!DOCTYPE html><html><head><title>Virus  scan\nwarning &amp; more</title></head>",
            "a web page (text/html, 'Virus scan warning & more'), no .tgz",
        ),
        (b"\xef\xbb\xbf\n <HTML lang=fr><body>\xe9t\xe9</body>", "a web page (text/html), "),
        (b"<html><title>caf\xe9</title>", "a web page (text/html, 'café'), "),
        (b"<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC ''><html>", "a web page (text/html), "),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "XML (<?xml version='1.0'?><Er"),
        (b'{"message": "Not\n  Found"}', 'JSON ({"message": "Not Found"}), '),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS, "),
        (b"Too many requests\r\n", "a text (Too many requests), "),
        ("é".encode() * 5_000, "a text (éééé"),
    ],
)
def test_the_error_says_that_a_file_is_text(tmp_path, text, says):
    assert refused(tmp_path, text).startswith(says)


def test_the_error_says_that_a_file_is_empty(tmp_path):
    assert "an empty file, 0 bytes" in refused(tmp_path, b"")


def test_a_tar_whose_first_name_looks_like_another_kind_is_a_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of("MZ.png", "{}.png"))
    assert unpack(tmp_path / "a.tar", tmp_path / "out")[0] == 2


def test_errors_name_the_archive_and_not_the_cached_file(tmp_path):
    (tmp_path / "e82f").write_bytes(b"Rar!\x1a\7\0")
    with pytest.raises(ArchiveError, match=r"^https://host/pets\.rar: a RAR archive"):
        unpack(tmp_path / "e82f", tmp_path / "out", text="https://host/pets.rar")
