"""Damaged metadata never costs a picture: what else a file may be read as, once it is refused.

    from visionflows.images.repair import versions
    for version in versions(data, "PNG"): ...        # the file itself, then what is left to try

Each other version is the same file without what does not make its pixels. Damage to the pixels
stays what it is: nothing that makes them is mended here, and nothing missing is filled.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from visionflows.images import jpeg

_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_WEBP_PIXELS = (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
# TIFF tags that make pixels: how they are stored, meant and turned.
_TIFF_PIXELS = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 334, 338, 339, 340, 341, 347, 512, 513, 514, 519, 520, 521),
    *(529, 530, 531, 532),
}
# Items of a HEIF that are pictures, or parts of one: ISO/IEC 23008-12, and libheif's list.
_ITEMS = (b"hvc1", b"av01", b"avc1", b"vvc1", b"jpeg", b"j2k1", b"grid", b"iden", b"iovl", b"tmap")
_LONGEST_ITEM = 1 << 12  # bytes of the box that lists one


class Version(NamedTuple):
    """A file's bytes, and what tells, if asked before they are believed, whether they are whole."""

    data: bytes
    whole: Callable[[], bool] | None = None


def versions(data: bytes, decoder: str) -> Iterator[Version]:
    """The file itself, and what it may be read as where that fails, each made when asked for."""
    if decoder == "JPEG":
        yield from _jpegs(data)
        return
    if decoder == "HEIF":
        yield Version(_boxes(data))  # nothing in it is read but pictures
        return
    yield Version(data)
    strip = _STRIPS.get(decoder)
    try:
        stripped = strip(data) if strip else None
    except (struct.error, IndexError, ValueError):  # ended where something should follow
        stripped = None
    if stripped is not None:
        yield Version(stripped)


def _jpegs(data: bytes) -> Iterator[Version]:
    sound = jpeg.is_sound(data)
    first = data if sound else jpeg.bare(data, exif=True)
    if first is not None:
        yield Version(first)
        end = jpeg.ended(first)
        if end:
            yield Version(*end)
    if not sound:
        yield Version(data)
    for exif in (True, False):
        stripped = jpeg.bare(data, exif)
        if stripped is not None and stripped != first:
            yield Version(stripped)


def _png(data: bytes) -> bytes | None:
    """A PNG's chunks that make pixels, and its orientation: as libpng, which drops an ancillary
    chunk whose checksum is wrong. None where one that makes pixels is damaged."""
    kept, at = [data[:8]], 8
    while True:
        chunk = _png_chunk(data, at)
        if chunk is None:
            if _png_makes_pixels(data, at):
                return None
            following = [_png_found(data, name, at + 1) for name in (*_PNG_PIXELS, b"eXIf")]
            at = min((storage for storage in following if storage >= 0), default=-1)
            if at < 0:
                return None
            continue
        name = chunk[4:8]
        if name in _PNG_PIXELS or name == b"eXIf":
            kept.append(chunk)
        if name == b"IEND":
            return b"".join(kept) if _inflates(kept) else None
        at += len(chunk)


def _png_chunk(data: bytes, at: int) -> bytes | None:
    """The chunk at a place, if its checksum is right."""
    (length,) = struct.unpack_from(">I", data, at)
    chunk = data[at : at + 12 + length]
    whole = len(chunk) == 12 + length
    return chunk if whole and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:]) else None


def _png_makes_pixels(data: bytes, at: int) -> bool:
    """Whether a broken chunk is one that makes pixels: by its name, or by the checksum with one."""
    (length,) = struct.unpack_from(">I", data, at)
    named, checksum = data[at + 4 : at + 8], data[at + 8 + length : at + 12 + length]
    content = data[at + 8 : at + 8 + length]
    return named in _PNG_PIXELS or any(
        zlib.crc32(name + content).to_bytes(4) == checksum for name in _PNG_PIXELS
    )


def _png_found(data: bytes, name: bytes, at: int) -> int:
    """Where the next sound chunk of a name is; -1 for nowhere."""
    while (at := data.find(name, at + 4)) >= 0:
        if _png_chunk(data, at - 4) is not None:
            return at - 4
        at -= 3
    return -1


def _inflates(chunks: list[bytes]) -> bool:
    """Whether the pixels' stream is whole, by its own checksum: no chunk of it was passed over."""
    stream = zlib.decompressobj()
    for chunk in chunks:
        if chunk[4:8] == b"IDAT":
            rest = chunk[8:-4]
            while rest and not stream.eof:
                try:
                    stream.decompress(rest, 1 << 20)
                except zlib.error:
                    return False
                rest = stream.unconsumed_tail
    while not stream.eof and stream.decompress(stream.unconsumed_tail, 1 << 20):
        pass
    return stream.eof


def _webp(data: bytes) -> bytes | None:
    """A WebP without its profile and XMP; with EXIF where that chunk leads to another."""
    kept, at = [], 12
    while at + 8 <= len(data):
        name, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        end = at + 8 + size + size % 2
        if end > len(data) or not name.isascii():
            if name in _WEBP_PIXELS:
                return None
            locations = [data.find(known, at + 1) for known in (*_WEBP_PIXELS, b"EXIF")]
            at = min((storage for storage in locations if storage >= 0), default=len(data))
            continue
        if name == b"VP8X":
            flags = data[at + 8] & 0b01_1010  # alpha, EXIF, animation; what is dropped is not told
            kept.append(data[at : at + 8] + bytes([flags]) + data[at + 9 : end])
        elif name in _WEBP_PIXELS or name == b"EXIF":
            kept.append(data[at:end])
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body if kept else None


def _gif(data: bytes) -> bytes | None:
    """A GIF's first frame, with the extension that says what of it is transparent."""
    at = _gif_table(data, 10, 13)
    head, control = data[:at], b""
    while True:
        if data[at] == 0x2C:
            end = _gif_image(data, at)  # what follows a broken one is another frame
            return head + control + data[at:end] + b";" if end else None
        end = _gif_blocks(data, at + 2) if data[at] == 0x21 else None
        if end is None or end >= len(data) or data[end] not in b"\x21\x2c\x3b":
            controls = data.find(b"\x21\xf9\x04", at + 1)
            images = _gif_found(data, at + 1)
            if images is None:
                return None
            at = controls if 0 <= controls < images else images
            continue
        if data[at + 1] == 0xF9:
            control = data[at:end]
        at = end


def _gif_found(data: bytes, at: int) -> int | None:
    """Where the next whole image is."""
    while (at := data.find(b"\x2c", at)) >= 0:
        if _gif_image(data, at):
            return at
        at += 1
    return None


def _gif_image(data: bytes, at: int) -> int | None:
    """The end of the image at a place, if it lies in the screen and its blocks lead to its end."""
    screen = struct.unpack_from("<HH", data, 6)
    left, top, width, height = struct.unpack_from("<HHHH", data, at + 1)
    if not (0 < width <= screen[0] - left and 0 < height <= screen[1] - top):
        return None
    coded = _gif_table(data, at + 9, at + 10)
    if not 1 < data[coded] < 12:
        return None
    return _gif_blocks(data, coded + 1)


def _gif_table(data: bytes, flags: int, at: int) -> int:
    """The end of the colour table at a place, which its flags say is there, or not."""
    return at + (3 << ((data[flags] & 7) + 1) if data[flags] & 0x80 else 0)


def _gif_blocks(data: bytes, at: int) -> int | None:
    while at < len(data):
        if not data[at]:
            return at + 1
        at += 1 + data[at]
    return None


def _tiff(data: bytes) -> bytes | None:
    """A TIFF whose directory, put at its end, holds the tags that make pixels alone."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    storage = 8 if big else 4
    (at,) = struct.unpack_from(order + offset, data, storage)
    (entries,) = struct.unpack_from(order + count, data, at)
    first = at + struct.calcsize(count)
    kept = []
    for at in range(first, first + entries * entry, entry):
        (tag,) = struct.unpack_from(order + "H", data, at)
        if tag in _TIFF_PIXELS:
            kept.append(data[at : at + entry])
    padded = data + bytes(-len(data) % 8)
    directory = struct.pack(order + count, len(kept)) + b"".join(kept)
    moved = padded[:storage] + struct.pack(order + offset, len(padded))
    return moved + padded[len(moved) :] + directory + struct.pack(order + offset, 0)


def _jpeg2000(data: bytes) -> bytes | None:
    """The bare codestream of a JP2, unless its colours are in a table beside it."""
    at = data.find(b"\xff\x4f\xff\x51")
    return data[at:] if at > 0 and b"pclr" not in data[:at] else None


def heif_with_exif(data: bytes) -> bytes:
    """A HEIF of whose items all but pictures and EXIF are hidden, for who reads its EXIF."""
    return _boxes(data, (*_ITEMS, b"Exif"))


def _boxes(data: bytes, kept: tuple[bytes, ...] = _ITEMS) -> bytes:
    """A HEIF or AVIF in whose list of items (`infe`) all but pictures have a type that nobody
    looks for: EXIF, XMP, and what damage has made of one, on which a reader may fall."""
    made, at = bytearray(data), 0
    while (at := data.find(b"infe", at)) >= 0:
        if int.from_bytes(data[max(at - 4, 0) : at]) > _LONGEST_ITEM:
            at += 4  # four bytes of pixels that happen to be these
            continue
        kind = at + {2: 12, 3: 14}.get(data[at + 4] if at + 4 < len(data) else 0, len(data))
        at += 4
        if data[kind : kind + 4] not in kept:
            made[kind : kind + 4] = b"none"[: len(data[kind : kind + 4])]
    return bytes(made)


_STRIPS: dict[str, Callable[[bytes], bytes | None]] = {
    **{"PNG": _png, "WEBP": _webp, "GIF": _gif, "TIFF": _tiff, "JPEG2000": _jpeg2000},
    "AVIF": _boxes,
}
