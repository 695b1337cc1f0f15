"""Images with metadata of every kind, and the byte ranges of the metadata.

from damaged_files import METADATA
data, spans = METADATA["JPEG"](picture())
"""

import io
import struct
import zlib
from collections.abc import Callable

import pillow_heif
from conftest import encoded
from PIL import Image

Span = tuple[int, int]
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><t>caf\xc3\xa9, by hand</t></x:xmpmeta>" * 3
ICC = bytes(range(256)) * 3


def exif() -> bytes:
    """An EXIF block with texts and a nested block, and upright orientation."""
    block = Image.Exif()
    block[0x010F], block[0x0110], block[0x0112] = "A Maker of Cameras", "A Model", 1
    block[0x0132] = "2026:01:02 03:04:05"
    block.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    return block.tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(image: Image.Image, **options) -> tuple[bytes, list[Span]]:
    """The contents of EXIF with a thumbnail, XMP, a profile, Photoshop resources and a comment."""
    data = encoded(image, "JPEG", quality=92, **options)
    thumbnail = encoded(image.resize((16, 16)), "JPEG")
    bodies = [
        (0xE1, exif() + thumbnail),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        (0xE2, b"ICC_PROFILE\0\1\1" + ICC),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10" + bytes(16)),
        (0xFE, b"made by hand, " * 5),
    ]
    made, spans = data[:2], []
    for marker, body in bodies:
        spans.append((len(made) + 4, len(made) + 4 + len(body)))
        made += segment(marker, body)
    return made + data[2:], spans


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(image: Image.Image) -> tuple[bytes, list[Span]]:
    """The contents and checksums of texts, a profile, EXIF, sizes, gamma and time."""
    data = encoded(image, "PNG")
    chunks = [
        chunk(b"tEXt", b"Comment\0made by hand"),
        chunk(b"zTXt", b"Long\0\0" + zlib.compress(b"long " * 99)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(ICC)),
        chunk(b"eXIf", exif()[6:]),
        chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"tIME", bytes([7, 234, 1, 2, 3, 4, 5])),
    ]
    made, spans = data[:33], []
    for one in chunks:
        spans.append((len(made) + 8, len(made) + len(one)))
        made += one
    return made + data[33:], spans


def webp(image: Image.Image) -> tuple[bytes, list[Span]]:
    data = encoded(image, "WEBP", exif=exif(), xmp=XMP, icc_profile=ICC)
    return data, [found(data, body) for body in (exif()[6:], XMP, ICC)]


def gif(image: Image.Image) -> tuple[bytes, list[Span]]:
    data = encoded(image.quantize(64), "GIF", comment=b"made by hand, " * 4)
    return data, [found(data, b"made by hand, " * 4)]


def tiff(image: Image.Image) -> tuple[bytes, list[Span]]:
    """Texts and a profile, and their directory entries without the tags."""
    tags = {270: "a description", 305: "a program", 306: "2026:01:02 03:04:05", 700: XMP}
    data = encoded(
        image, "TIFF", tiffinfo=tags, icc_profile=ICC, compression="tiff_lzw", dpi=(72,) * 2
    )
    spans = [found(data, body) for body in (b"a description", b"a program", XMP, ICC)]
    (at,) = struct.unpack_from("<I", data, 4)
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        storage = at + 2 + 12 * entry
        if struct.unpack_from("<H", data, storage)[0] in (270, 282, 283, 296, 305, 306, 700, 34675):
            spans.append((storage + 2, storage + 12))
    return data, spans


def avif(image: Image.Image) -> tuple[bytes, list[Span]]:
    data = encoded(image, "AVIF", exif=exif(), xmp=XMP)
    at = data.index(b"MM\0*\0\0\0\x08")  # without orientation, which AVIF stores itself
    return data, [(at, at + len(exif()) - 6 - 12), found(data, XMP)]


def heif(image: Image.Image) -> tuple[bytes, list[Span]]:
    file = pillow_heif.from_pillow(image)
    buffer = io.BytesIO()
    file.save(buffer, exif=exif(), xmp=XMP)
    data = buffer.getvalue()
    return data, [found(data, body) for body in (exif()[6:], XMP)]


def found(data: bytes, body: bytes) -> Span:
    at = data.index(body)
    return at, at + len(body)


METADATA: dict[str, Callable[[Image.Image], tuple[bytes, list[Span]]]] = {
    **{"JPEG": jpeg, "progressive": lambda image: jpeg(image, progressive=True), "PNG": png},
    **{"WEBP": webp, "GIF": gif, "TIFF": tiff, "AVIF": avif, "HEIF": heif},
}
