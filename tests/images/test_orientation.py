"""Which way up: EXIF in JPEG, WebP and TIFF, eXIf in PNG, irot and imir in HEIC and AVIF."""

import struct
import zlib

import numpy as np
import pillow_heif
import pytest
from conftest import encoded
from PIL import Image

from visionflows.images.open import open_image

pillow_heif.register_heif_opener()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6

OTHER_EXIF = EXIF.replace(b"\x01\x12", b"\x01\x28")  # a unit, not an orientation


def stored() -> Image.Image:
    """An image whose left half is dark."""
    image = Image.new("RGB", (32, 32), "white")
    image.paste("black", (0, 0, 16, 32))
    return image


def dark_side(data: bytes) -> str:
    seen = np.asarray(open_image(data).convert("L"), int)
    halves = {"left": seen[:, :16], "right": seen[:, 16:], "top": seen[:16], "bottom": seen[16:]}
    return min(halves, key=lambda name: halves[name].mean())


def with_chunk(kind: bytes, body: bytes, late: bool = False) -> bytes:
    data = encoded(stored(), "PNG")
    at = len(data) - 12 if late else 33
    made = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:at] + made + data[at:]


def raw_profile() -> bytes:
    """The chunk in which ImageMagick wrote EXIF before PNG had its own."""
    text = b"\nexif\n%8d\n%s\n" % (len(EXIF), EXIF.hex().encode())
    return with_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


IN_XMP = {
    "JPEG": lambda: encoded(stored(), "JPEG", xmp=XMP),
    "JPEG, with other EXIF": lambda: encoded(stored(), "JPEG", xmp=XMP, exif=OTHER_EXIF),
    "WebP": lambda: encoded(stored(), "WEBP", xmp=XMP),
    "TIFF": lambda: encoded(stored(), "TIFF", tiffinfo={700: XMP}),
    "TIFF, compressed": lambda: encoded(
        stored(), "TIFF", tiffinfo={700: XMP}, compression="tiff_lzw"
    ),
    "PNG": lambda: with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "PNG, late": lambda: with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP, late=True),
    "PNG, as text": raw_profile,
    "AVIF": lambda: encoded(stored(), "AVIF", xmp=XMP),
    "HEIF": lambda: encoded(stored(), "HEIF", xmp=XMP),
}


@pytest.mark.parametrize("name", IN_XMP)
def test_orientation_elsewhere_turns_nothing(name):
    if name == "HEIF":  # its encoder turns what XMP says
        data = encoded(stored(), "HEIF", xmp=XMP.replace(b'"6"', b'"1"'))
        assert dark_side(data.replace(b'tiff:Orientation="1"', b'tiff:Orientation="6"')) == "left"
    else:
        assert dark_side(IN_XMP[name]()) == "left"


@pytest.mark.parametrize("late", [False, True])
def test_a_png_has_its_own_chunk(late):
    assert dark_side(with_chunk(b"eXIf", EXIF[6:], late)) == "top"


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
@pytest.mark.parametrize("said", [1, 3, 8])
def test_the_exif_of_heic_and_avif_counts_nothing(format, said):
    """Only irot and imir do, which the encoder writes for orientation 6."""
    for orientation, side in ((6, "top"), (1, "left")):
        block = bytearray(EXIF)
        block[25] = orientation
        data = encoded(stored(), format, quality=90, exif=bytes(block))
        for byte_order in ("<", ">"):
            for kept in (1, 6):
                entry = struct.pack(byte_order + "HHIH", 0x0112, 3, 1, kept)
                data = data.replace(entry, entry[:-2] + struct.pack(byte_order + "H", said))
        assert dark_side(data) == side
