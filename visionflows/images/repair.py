"""A damaged JPEG or PNG without its metadata, for a decoder that refused the file itself.

Only segments and chunks that do not make pixels are dropped. Damage to the pixels stays damage.
The work is linear in the size of the file, with the limits below, whatever its bytes are.
"""

import functools
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

# JPEG segments and markers: ITU-T T.81, Annex B.
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_MAKES_PIXELS = {*_FRAMES, 0xC4, 0xCC, _SOS, 0xDB, 0xDD}  # with tables and the restart interval
_KNOWN = _MAKES_PIXELS | {*range(0xE0, 0xF0), 0xFE}
_MARKER = re.compile(rb"\xff(?:\xd8(?=\xff)|[%s])" % re.escape(bytes([*_KNOWN, _EOI])))
MAX_SEGMENTS = 10_000  # walked in one file; real files have a few hundred at most
MAX_FILL = 1024  # 0xFF bytes before a marker
MAX_DAMAGES = 8  # places in one file where segments are searched again
SEARCHED = 2 * 65_537  # bytes searched there: two segments of the largest size

# Items of a HEIF that are images, or parts of one (ISO/IEC 23008-12, and libheif's list), and EXIF.
_HEIF_ITEMS = (
    *(b"hvc1", b"av01", b"avc1", b"vvc1", b"jpeg", b"j2k1", b"grid", b"iden", b"iovl", b"tmap"),
    b"Exif",
)
_MAX_ITEM_BOX = 1 << 12  # bytes of the box that lists one

_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
MAX_CHUNKS = 500_000  # 100 million 16-bit RGB pixels in IDAT chunks of 8 KB have 75,000


def candidates(data: bytes, decoder: str) -> Iterator[bytes]:
    """What a file may be decoded as, in order, each made when the one before it was refused.

    A JPEG whose segments are damaged is stripped first: libjpeg guesses where it goes on.
    """
    attempts: list[Callable[[bytes], bytes | None]] = [lambda data: data]
    if decoder == "PNG":
        attempts.append(strip_png)
    elif decoder == "JPEG":
        attempts.insert(_first_scan(data) is not None, strip_jpeg)
        attempts.append(functools.partial(strip_jpeg, keep_exif=False))
    for attempt in attempts:
        if (candidate := attempt(data)) is not None:
            yield candidate


class _Segment(NamedTuple):
    marker: int
    start: int
    end: int


def _segment(data: bytes, start: int) -> _Segment | None:
    """The segment at an offset; None where its length leads to no other marker."""
    fill = data[start : start + MAX_FILL]
    start += max(len(fill) - len(fill.lstrip(b"\xff")) - 1, 0)
    head = data[start : start + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] not in _KNOWN:
        return None
    end = start + 2 + int.from_bytes(head[2:])
    if end < start + 4 or end >= len(data) or (head[1] != _SOS and data[end] != 0xFF):
        return None
    return _Segment(head[1], start, end)


def _first_scan(data: bytes) -> list[_Segment] | None:
    """The segments up to the first scan; None where one of them is damaged."""
    segments: list[_Segment] = []
    at = 2
    while len(segments) < MAX_SEGMENTS and (segment := _segment(data, at)):
        segments.append(segment)
        if segment.marker == _SOS:
            return segments
        at = segment.end
    return None


def has_many_scans(data: bytes) -> bool:
    """Whether a JPEG has several scans, or may have: its decoder then holds all coefficients."""
    segments = _first_scan(data)
    if segments is None:
        return True
    components = [data[each.start + 9] for each in segments if each.marker in _FRAMES]
    return bool(components) and data[segments[-1].start + 4] < components[-1]


def strip_jpeg(data: bytes, keep_exif: bool = True) -> bytes | None:
    """The JPEG without metadata, but for its EXIF if asked; None if its image is not found.

    The segments of JFIF and Adobe stay, because they say what the colours mean.
    """
    kept, at, damages = [data[:2]], 2, 0
    for _ in range(MAX_SEGMENTS):
        segment = _segment(data, at)
        if segment is None:
            at, damages = _resume(data, at), damages + 1
            if at == len(data) or damages > MAX_DAMAGES:
                return None
            continue
        if segment.marker == _SOS:
            return b"".join([*kept, data[segment.start :]])
        content = data[segment.start + 4 : segment.end]
        if segment.marker in _MAKES_PIXELS or _is_kept(segment.marker, content, keep_exif):
            kept.append(data[segment.start : segment.end])
        at = segment.end
    return None


def _is_kept(marker: int, content: bytes, keep_exif: bool) -> bool:
    if marker == 0xE1:
        return keep_exif and content.startswith(b"Exif\0\0")
    colours = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
    name, least = colours.get(marker, (b"", 1 << 20))
    return len(content) >= least and content.startswith(name)


def _resume(data: bytes, damaged: int) -> int:
    """Where segments go on behind a damaged one: at those that lead to the largest frame.

    The end of the data if there are none. Segments with a start of their own are left out: they
    are those of a thumbnail, or of another image behind the first.
    """
    best, areas, inside = (0, 0), dict[int, int](), False
    for match in _MARKER.finditer(data, damaged + 1, damaged + SEARCHED):
        marker = match[0][1]
        if marker in (_SOI, _EOI):
            inside = marker == _SOI
        elif not inside:
            best = max(best, (_largest_frame(data, match.start(), areas), -match.start()))
    return -best[1] if best[0] else len(data)


def _largest_frame(data: bytes, at: int, areas: dict[int, int]) -> int:
    """The most pixels of a frame on the way from an offset to a scan; -1 if no scan is reached.

    `areas` remembers every offset, so that each is visited once for all starting points.
    """
    path: list[tuple[int, _Segment]] = []
    while at not in areas and len(areas) + len(path) < MAX_SEGMENTS:
        segment = _segment(data, at)
        if segment is None or segment.marker == _SOS:
            areas[at] = -1 if segment is None else 0
        else:
            path.append((at, segment))
            at = segment.end
    area = areas.get(at, -1)
    for start, segment in reversed(path):
        if area >= 0 and segment.marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, segment.start + 5)
            area = max(area, height * width)
        areas[start] = area
    return area


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


def hide_unknown_items(data: bytes) -> bytes:
    """The HEIF with the type `none` for every listed item that is neither image nor EXIF.

    pi_heif ends the process at an item type that is not text.
    """
    made, at = bytearray(data), 0
    while (at := data.find(b"infe", at)) >= 0:
        version = data[at + 4] if at + 4 < len(data) else 0
        is_box = int.from_bytes(data[max(at - 4, 0) : at]) <= _MAX_ITEM_BOX  # else pixels
        kind = at + {2: 12, 3: 14}.get(version, len(data))
        if is_box and data[kind : kind + 4] not in _HEIF_ITEMS:
            made[kind : kind + 4] = b"none"[: len(data[kind : kind + 4])]
        at += 4
    return bytes(made)
