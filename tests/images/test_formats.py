"""Formats are detected by the first bytes; the error of other files names their kind."""

import errno
import io
import os
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
import tifffile
from conftest import encoded, picture
from image_files import png, refused
from PIL import Image, TiffImagePlugin

from visionflows.images.formats import ImageFilter, detect_format
from visionflows.images.open import open_image
from visionflows.storage.base import Entry
from visionflows.storage.local import LocalStorage

pillow_heif.register_heif_opener()
UNKNOWN = "not an image in a format that can be read"


def is_image_file(name: str, data: bytes) -> bool:
    images = ImageFilter(lambda names, size: (data[:size] for _ in names))
    return bool([*images([Entry(name, 0, "")])])


def chosen(images: ImageFilter, *names: str) -> list[str]:
    return [entry.name for entry in images(Entry(name, 0, "") for name in names)]


def refusal(data: bytes) -> str:
    status, reason = refused(data)
    assert status == "unreadable"
    return reason


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000", "MPO"]
)
@pytest.mark.parametrize("name", ["IMG_1.jpg_large", "picture", "a.bin", "a.heic", "b.tga"])
def test_an_image_may_have_any_name(format, name):
    data = encoded(picture(), format)
    assert is_image_file(name, data)
    assert open_image(data).size == (48, 40)


def test_files_with_a_known_extension_are_not_read():
    images = ImageFilter(lambda names, size: iter(names))  # none may be looked into
    names = ("a/IMG_0001.JPG", "a.HEIC", "a/labels.CSV")
    assert chosen(images, *names) == ["a/IMG_0001.JPG", "a.HEIC"]


BOX = struct.Struct(">I4s4sI")
REFUSED = {
    "JPEG XL": b"\xff\x0a" + bytes(40),
    "JPEG XL: not decoded here": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
    "camera raw": b"II*\0\x10\0\0\0CR\2\0" + bytes(500),
    "camera raw (": b"FUJIFILMCCD-RAW 0201" + bytes(100),
    "camera raw (CR2, CR3": BOX.pack(24, b"ftyp", b"crx ", 1) + b"crx isom" + bytes(40),
    "TIFF or camera raw": b"MM\0*\0\0\0\x08" + bytes(500),
    "DICOM": bytes(128) + b"DICM" + bytes(100),
    "icon (ICO)": encoded(Image.new("RGB", (16, 16)), "ICO"),
    "Photoshop (PSD)": b"8BPS\0\1" + bytes(50),
}
OTHERS = {
    "a web page": b"\n<!DOCTYPE html>\n<html><title>Sign in</title>",
    "a web page,": b"\xef\xbb\xbf<HTML><body>",
    "a PDF": b"%PDF-1.4",
    "an SVG": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "a video": BOX.pack(24, b"ftyp", b"mp42", 0) + b"mp42isom",
    "a zip archive": b"PK\x03\x04" + bytes(30),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:",
    "AppleDouble metadata": bytes.fromhex("00051607") + bytes(500),
}


@pytest.mark.parametrize("says", [*REFUSED, *OTHERS])
def test_the_error_names_unsupported_formats(says):
    data = {**REFUSED, **OTHERS}[says]
    assert refusal(data).startswith(says)
    assert is_image_file("what", data) == (says in REFUSED)


@pytest.mark.parametrize(
    "data", [b"", b"BM is how this text begins, and it goes on", b"P", b"\xff"]
)
def test_an_unknown_format_is_no_image(data):
    assert detect_format(data) is None
    assert not is_image_file("notes", data)


def dng() -> bytes:
    """A file like DNG, whose first image is a preview."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[50706] = b"\1\4\0\0"
    return encoded(picture(), "TIFF", tiffinfo=tags)


def test_the_preview_of_a_camera_raw_is_not_used():
    assert refusal(dng()).startswith("camera raw")


def tiff(bits: int, kind: int, compression: int) -> bytes:
    """A TIFF of 4 × 4 pixels, all of its bytes zero."""
    tags = {256: (4, 4), 257: (4, 4), 258: (3, bits), 259: (3, compression), 262: (3, 1)}
    tags |= {277: (3, 1), 339: (3, kind), 273: (4, 200), 278: (4, 4), 279: (4, 2 * bits)}
    entries = b"".join(
        struct.pack("<HHIHH" if kind == 3 else "<HHII", tag, kind, 1, value, *[0] * (kind == 3))
        for tag, (kind, value) in sorted(tags.items())
    )
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    return data.ljust(400, b"\0")


def test_the_reason_names_the_kind_of_tiff():
    data = tiff(bits=64, kind=3, compression=1)
    assert refusal(data) == (
        "TIFF: 1 band of 64-bit float, compression 1: not decoded here; save it as PNG"
    )
    assert refusal(data[:9]).startswith("TIFF or camera raw")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiff_of_either_size_and_byte_order(tmp_path, order, bigtiff):
    values = np.asarray(picture())
    tifffile.imwrite(tmp_path / "a", values, photometric="rgb", byteorder=order, bigtiff=bigtiff)
    data = (tmp_path / "a").read_bytes()
    assert is_image_file("what", data)
    np.testing.assert_array_equal(np.asarray(open_image(data)), values)


@pytest.mark.parametrize(
    "format, major", [("AVIF", b"miaf"), ("AVIF", b"mif1"), ("HEIF", b"miaf"), ("HEIF", b"isom")]
)
def test_compatible_brands_count(format, major):
    data = encoded(picture(), format)
    size = int.from_bytes(data[:4])
    brands = major + data[12:16] + b"".join((b"miaf", data[8:12], data[16:size]))
    renamed = struct.pack(">I", len(brands) + 8) + b"ftyp" + brands + data[size:]
    shift = len(brands) + 8 - size
    renamed = moved(renamed, shift)
    assert is_image_file("what", renamed)
    assert open_image(renamed).tobytes() == open_image(data).tobytes()


def moved(data: bytes, shift: int) -> bytes:
    """The HEIF with offsets of its first item (iloc, construction method 0) moved."""
    at = data.index(b"mdat") + 4  # where the items began in the original, less the shift
    made, old = bytearray(data), struct.pack(">I", at - shift)
    found = data.find(old, data.index(b"iloc"), at)
    assert found > 0
    made[found : found + 4] = struct.pack(">I", at)
    return bytes(made)


def jpeg_frame(marker: int, bits: int = 8) -> bytes:
    """A JPEG of a process that libjpeg has no decoder of, behind a thumbnail of the usual one."""
    data = encoded(picture())
    at = data.index(b"\xff\xc0")
    frame = bytes([0xFF, marker]) + data[at + 2 : at + 4] + bytes([bits]) + data[at + 5 :]
    thumbnail = encoded(picture(size=(8, 8)))
    return (
        data[:2]
        + b"\xff\xe1"
        + struct.pack(">H", len(thumbnail) + 2)
        + thumbnail
        + (data[2:at] + frame)
    )


def cgbi() -> bytes:
    data = encoded(picture(), "PNG")
    return (
        data[:8]
        + b"\0\0\0\4CgBI\x50\0\x20\2"
        + struct.pack(">I", zlib.crc32(b"CgBI\x50\0\x20\2"))
        + data[8:]
    )


def bmp_masks(*masks: int) -> bytes:
    data = bytearray(encoded(picture(mode="RGBA"), "BMP"))
    (at,) = struct.unpack_from("<I", data, 10)
    data[30:34] = struct.pack("<I", 3)
    return bytes(data[:at] + struct.pack("<III", *masks) + data[at:])


def tga_run() -> bytes:
    """A TGA of 4 × 4 pixels as one run."""
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 4, 4, 24, 0x20)
    return head + bytes([0x8F, 1, 2, 3])


UNUSUAL = {
    "12-bit JPEG": jpeg_frame(0xC1, 12),
    "lossless JPEG": jpeg_frame(0xC3),
    "hierarchical JPEG": jpeg_frame(0xC5),
    "JPEG-LS": jpeg_frame(0xF7),
    "PNG packed for iOS (CgBI)": cgbi(),
    "BMP with unusual masks of its channels": bmp_masks(0x3FF00000, 0xFFC00, 0x3FF),
    "TGA with runs across lines, or damaged": tga_run(),
    "PAM (Netpbm with any number of channels)": b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nENDHDR\n\0",
    "PFM in colour": b"PF\n1 1\n-1.0\n" + bytes(12),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_the_error_names_unusual_kinds(name):
    reason = refusal(UNUSUAL[name])
    assert reason.startswith(f"{name}: not decoded here; save it as ")


@pytest.mark.parametrize(
    "compression, reason", [(6, "with old-style JPEG (compression 6): "), (8, "of compression 8: ")]
)
def test_the_error_names_the_compression_of_a_tiff(compression, reason):
    assert refusal(tiff(bits=8, kind=1, compression=compression)).startswith(f"TIFF {reason}")


def test_a_broken_header_names_the_format_and_is_not_tried_as_another():
    data = bytearray(encoded(picture(), "PNG"))
    data[12:16] = b"JHDR"
    assert refusal(bytes(data)) == "PNG: its header cannot be read"


def test_a_file_without_signature_may_be_a_tga():
    data = encoded(picture(), "TGA")
    assert detect_format(data) is None
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "TGA"
    assert open_image(data).size == (48, 40)


def test_other_files_are_counted_by_extension(tmp_path):
    (tmp_path / "x.jpg_large").write_bytes(encoded(picture()))
    (tmp_path / "c").write_bytes(b"no picture")
    images = ImageFilter(LocalStorage(tmp_path).heads)
    names = ("a/b.CSV", "c", "Thumbs.db", "x.jpg_large", "gone.jpg", "gone", "d.csv")
    assert chosen(images, *names) == ["x.jpg_large", "gone.jpg"]
    assert images.by_extension() == {".csv": 2, "no extension": 2, ".db": 1}
    many = ImageFilter(lambda names, size: (b"" for _ in names))
    assert chosen(many, *(f"a.{number:03}" for number in range(100))) == []
    assert len(many.by_extension()) == 21
    assert sum(many.by_extension().values()) == many.others.total() == 100


@pytest.mark.parametrize(
    "text, reason",
    [
        *((text, UNKNOWN) for text in (b"hello\n", b"\0" * 1000, b"name,label\n")),
        (b"<svg/>", "an SVG, not an image"),
        (b"%PDF-1.7\n", "a PDF, not an image"),
    ],
)
def test_files_that_are_not_images_are_refused(tmp_path, text, reason):
    (tmp_path / "text.jpg").write_bytes(text)
    assert refused(tmp_path / "text.jpg") == ("unreadable", reason)


def test_postscript_is_refused_without_a_program_being_run(tmp_path, monkeypatch):
    """Pillow runs `gs` for EPS content under any file name."""
    program, ran = tmp_path / "gs", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    eps = encoded(picture(), "EPS")
    with Image.open(io.BytesIO(eps)) as image, pytest.raises(OSError, match="cannot identify"):
        image.load()
    assert ran.exists()  # as Pillow alone would …
    ran.unlink()
    assert refused(eps)[0] == "unreadable"
    assert not ran.exists()  # … and open_image does not


def test_a_huge_image_inside_an_icon_is_not_decoded():
    """An ICO declares at most 256×256, but Pillow decodes its contents on opening."""
    inner = png(20_000, 20_000, zlib.compress(bytes(20_000 * 2_501), 1))
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inner), 22)
    assert refused(struct.pack("<HHH", 0, 1, 1) + entry + inner)[0] == "unreadable"


def test_a_file_that_may_be_an_image_but_cannot_be_read_is_one():
    def heads(names: list[str], size: int) -> list[OSError]:
        return [OSError(errno.EIO, os.strerror(errno.EIO)) for _ in names]

    images = ImageFilter(heads)
    assert chosen(images, "IMG_0001", "a.csv", "b.xyz") == ["IMG_0001", "b.xyz"]
    assert images.by_extension() == {".csv": 1}


def test_an_ending_that_is_not_utf8_is_counted_as_text():
    images = ImageFilter(lambda names, size: (b"" for _ in names))
    assert chosen(images, os.fsdecode(b"notes.ann\xe9e"), "a.\x1b[31m\n") == []
    assert images.by_extension() == {r".ann\xe9e": 1, r".\x1b[31m\n": 1}
