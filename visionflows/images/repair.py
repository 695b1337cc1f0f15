"""Drop the damaged metadata of a JPEG or PNG. An image with damaged pixels is refused."""

import struct
import zlib
from collections.abc import Iterator

from visionflows.images import jpeg
from visionflows.images.image_status import BadImage

_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT")
_PNG_PIXELS = (*_PNG_CRITICAL, b"tRNS", b"IEND")
MAX_CHUNKS = 500_000  # 100 million 16-bit RGB pixels in IDAT chunks of 8 KB have 75,000


def candidates(data: bytes, decoder: str) -> Iterator[bytes]:
    """The versions of a file to decode, in order; each is made if the one before it was refused.

    Raises BadImage for a JPEG whose segments are damaged: decoders guess where it goes on. Also for
    a PNG whose pixels have a wrong checksum.
    """
    if decoder == "PNG":
        _check_png(data)
    if decoder != "JPEG":
        yield data
    if decoder == "PNG" and (stripped := strip_png(data)) is not None:
        yield stripped
    if decoder == "JPEG":
        header = jpeg.read_header(data)
        jpeg.check_scans(data, header)
        has_sound_exif = header.exif <= jpeg.MAX_EXIF
        if not header.padding and has_sound_exif:
            yield data
        for keep in (jpeg.METADATA, (jpeg.EXIF,), ()) if has_sound_exif else ((jpeg.ICC,), ()):
            yield jpeg.strip_metadata(data, header, keep)


def _check_png(data: bytes) -> None:
    """Raise BadImage if a chunk that makes pixels has a wrong checksum, which Pillow ignores."""
    for chunk, is_sound in _png_chunks(data):
        if not is_sound and chunk[4:8] in _PNG_CRITICAL:
            name = chunk[4:8].decode()
            raise BadImage("unreadable", f"damaged pixels: PNG: wrong checksum of {name}")


def strip_png(data: bytes) -> bytes | None:
    """The PNG with only the chunks that make pixels and its orientation.

    An ancillary chunk with a wrong checksum is dropped, as libpng does. None where a chunk that
    makes pixels is damaged, or a length leads nowhere.
    """
    kept = [data[:8]]
    for chunk, is_sound in _png_chunks(data):
        name = chunk[4:8]
        if is_sound and name in (*_PNG_PIXELS, b"eXIf"):
            kept.append(chunk)
        elif not is_sound and (name[:1].isupper() or name == b"tRNS" or _was_pixels(chunk)):
            return None
    return b"".join(kept) if kept[-1][4:8] == b"IEND" else None


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """The chunks up to IEND or a length that leads nowhere, and whether their checksum is right."""
    at = 8
    for _ in range(MAX_CHUNKS):
        (length,) = struct.unpack(">I", data[at : at + 4].ljust(4, b"\xff"))
        chunk, at = data[at : at + 12 + length], at + 12 + length
        if at > len(data):
            return
        yield chunk, zlib.crc32(memoryview(chunk)[4:-4]) == int.from_bytes(chunk[-4:])
        if chunk[4:8] == b"IEND":
            return


def _was_pixels(chunk: bytes) -> bool:
    """Whether only the name of a chunk that makes pixels is damaged."""
    content, checksum = memoryview(chunk)[8:-4], int.from_bytes(chunk[-4:])
    return any(zlib.crc32(content, zlib.crc32(name)) == checksum for name in _PNG_PIXELS)
