"""A JPEG or PNG with damaged metadata, without it. Damage to the pixels stays damage."""

import struct
import zlib
from collections.abc import Iterator

from visionflows.images import jpeg

_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
MAX_CHUNKS = 500_000  # 100 million 16-bit RGB pixels in IDAT chunks of 8 KB have 75,000


def candidates(data: bytes, decoder: str) -> Iterator[bytes]:
    """What a file may be decoded as, in order, each made when the one before it was refused.

    Raises BadImage for a JPEG whose segments are damaged: decoders guess where it goes on.
    """
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


def strip_png(data: bytes) -> bytes | None:
    """The PNG with only the chunks that make pixels and its orientation.

    An ancillary chunk with a wrong checksum is dropped, as libpng does. None where a chunk that
    makes pixels is damaged, or a length leads nowhere.
    """
    kept, at = [data[:8]], 8
    for _ in range(MAX_CHUNKS):
        (length,) = struct.unpack(">I", data[at : at + 4].ljust(4, b"\xff"))
        chunk, at = data[at : at + 12 + length], at + 12 + length
        if at > len(data):
            return None
        name, checksum = chunk[4:8], int.from_bytes(chunk[-4:])
        if zlib.crc32(memoryview(chunk)[4:-4]) == checksum:
            if name in (*_PNG_PIXELS, b"eXIf"):
                kept.append(chunk)
            if name == b"IEND":
                return b"".join(kept)
        elif name[:1].isupper() or name == b"tRNS" or _was_pixels(chunk, checksum):
            return None
    return None


def _was_pixels(chunk: bytes, checksum: int) -> bool:
    """Whether only the name of a chunk that makes pixels is damaged."""
    content = memoryview(chunk)[8:-4]
    return any(zlib.crc32(content, zlib.crc32(name)) == checksum for name in _PNG_PIXELS)
