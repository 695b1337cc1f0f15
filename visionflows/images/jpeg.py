"""A JPEG without what does not make its pixels, and one that lacks no more than its end.

    from visionflows.images.jpeg import bare, ended, is_sound

Segments and markers: ITU-T T.81, Annex B. What is damaged between the segments that make pixels is
dropped; how the walk finds the next of them is told at `_resumed`.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from PIL import Image

_SOS, _SOI, _EOI = 0xDA, b"\xff\xd8\xff", b"\xff\xd9"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PIXELS = {*_FRAMES, 0xC4, 0xCC, _SOS, 0xDB, 0xDD}  # with the tables, and the restart interval
_KNOWN = _PIXELS | {*range(0xE0, 0xF0), 0xFE}
_LONGEST = 65_535 + 2  # bytes of a segment
_NOISES = (b"", b"\x55" * 512, b"\xaa" * 512, b"\xdb\x6d\xb6" * 170)  # of every code the first bits
_SCAN, _RESTART_OR_SCAN = re.compile(rb"\xff\xda"), re.compile(rb"\xff[\xd0-\xd7\xda]")


class _Segment(NamedTuple):
    marker: int
    start: int
    end: int


def _segments(data: bytes, at: int) -> Iterator[_Segment]:
    """The segments up to the first scan. Raises ValueError where one leads to no other."""
    while True:
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        head = data[at : at + 4]
        if len(head) < 4 or head[0] != 0xFF or head[1] not in _KNOWN:
            raise ValueError(at)
        end = at + 2 + int.from_bytes(head[2:])
        if end < at + 4 or end >= len(data) or (head[1] != _SOS and data[end] != 0xFF):
            raise ValueError(at)
        yield _Segment(head[1], at, end)
        if head[1] == _SOS:
            return
        at = end


def is_sound(data: bytes) -> bool:
    """Whether each segment leads to the next, up to the first scan."""
    try:
        return bool([*_segments(data, 2)])
    except ValueError:
        return False


def has_many_scans(data: bytes) -> bool:
    """Whether it is in several scans, or may be: its decoder holds them all, as a progressive's."""
    try:
        segments = [*_segments(data, 2)]
    except ValueError:
        return True
    frames = [data[segment.start + 9] for segment in segments if segment.marker in _FRAMES]
    return bool(frames) and data[segments[-1].start + 4] < frames[-1]


def bare(data: bytes, exif: bool) -> bytes | None:
    """The same picture without metadata, but for its orientation if `exif`; None if none is found.

    JFIF's and Adobe's segments stay: they say what the colours mean.
    """
    kept, at = [data[:2]], 2
    while True:
        try:
            for segment in _segments(data, at):
                at = segment.end
                content = data[segment.start + 4 : segment.end]
                if segment.marker == _SOS:
                    return b"".join([*kept, data[segment.start :]])
                if segment.marker in _PIXELS or _is_kept(segment.marker, content, exif):
                    kept.append(data[segment.start : segment.end])
        except ValueError as error:
            resumed = _resumed(data, error.args[0])
            if resumed is None:
                return None
            at = resumed


def _is_kept(marker: int, content: bytes, exif: bool) -> bool:
    if marker == 0xE1:
        return exif and content.startswith(b"Exif\0\0")
    colours = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
    name, least = colours.get(marker, (b"", 1 << 20))
    return len(content) >= least and content.startswith(name)


def _resumed(data: bytes, broken: int) -> int | None:
    """Where segments go on behind a broken one: those of the largest picture.

    Not of one with a beginning of its own: a thumbnail, or what stands behind the picture.
    """
    found: tuple[int, int] = (0, 0)
    seen: set[int] = set()
    at = data.find(b"\xff", broken + 1)
    while 0 <= at <= broken + 2 * _LONGEST:
        if at not in seen:
            chain = _chain(data, at)
            seen |= {segment.start for segment in chain}
            area = max((_area(data, segment) for segment in chain), default=0)
            if data.rfind(_SOI, broken, at + 1) <= data.rfind(_EOI, broken, at):
                found = max(found, (area, -at))
        at = data.find(b"\xff", at + 1)
    return -found[1] if found[0] else None


def _chain(data: bytes, at: int) -> list[_Segment]:
    try:
        return [*_segments(data, at)]
    except ValueError:
        return []


def _area(data: bytes, segment: _Segment) -> int:
    if segment.marker not in _FRAMES:
        return 0
    frame = data[segment.start + 5 : segment.start + 9]
    return int.from_bytes(frame[:2]) * int.from_bytes(frame[2:])


def ended(data: bytes) -> tuple[bytes, Callable[[], bool]] | None:
    """A JPEG that has no end with one, and what tells whether it lacks nothing else.

    None for one that has an end. A decoder fills what is missing without a word, so it is asked:
    with all pixels there, it makes nothing of bytes put before the end; and it does of bytes put
    in place of the last few.
    """
    if data.find(_EOI, _scan(data)) >= 0:
        return None
    data = data.removesuffix(b"\xff")

    def made(begun: bytes) -> set[bytes]:
        starts = {b"", _next_restart(begun)}
        return {_digest(begun + start + noise + _EOI) for start in starts for noise in _NOISES}

    def whole() -> bool:
        return _has_all_scans(data) and len(made(data)) == 1 and len(made(data[:-16])) > 1

    return data + _EOI, whole


def _next_restart(data: bytes) -> bytes:
    """The marker that would stand before more pixels: behind one that is missing none are read."""
    at = _scan(data)
    if not any(segment.marker == 0xDD for segment in _segments(data, 2)):
        return b""
    last = [match[0][1] for match in _RESTART_OR_SCAN.finditer(data, at)][-1:]
    return bytes([0xFF, 0xD0 if last in ([], [_SOS]) else 0xD0 + (last[0] + 1) % 8])


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans bring all coefficients of all components to their last bit.

    One that was cut between two scans shows it in nothing else.
    """
    segments = [*_segments(data, 2)]
    (frame,) = (data[segment.start + 4 :] for segment in segments if segment.marker in _FRAMES)
    left = {(component, at) for component in frame[6 : 6 + 3 * frame[5] : 3] for at in range(64)}
    scans = [segments[-1].start, *(match.start() for match in _SCAN.finditer(data, _scan(data)))]
    for scan in scans:
        count = data[scan + 4]
        components = data[scan + 5 : scan + 5 + 2 * count : 2]
        first, last, bits = data[scan + 5 + 2 * count : scan + 8 + 2 * count]
        if bits & 15 == 0:
            left -= {(c, at) for c in components for at in range(first, last + 1)}
    return not left


def _scan(data: bytes) -> int:
    """Where the first scan begins; the end of the data, if nowhere."""
    try:
        return [*_segments(data, 2)][-1].end
    except ValueError:
        return len(data)


def _digest(data: bytes) -> bytes:
    """What a decoder makes of a JPEG; of no more than a strip of it there are two copies."""
    digest = hashlib.sha256()
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.load()
        for top in range(0, image.height, 64):
            box = (0, top, image.width, min(top + 64, image.height))
            digest.update(image.crop(box).tobytes())
    return digest.digest()
