"""JPEG: its segments and scans, and a decoder that refuses damaged pixels.

Markers are those of ITU-T T.81, Annex B. Walks are linear in the size of the file and bounded.
"""

import re
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

import simplejpeg
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from visionflows.images.image_status import BadImage

_EOI, _SOS, EXIF, ICC = 0xD9, 0xDA, 0xE1, 0xE2
METADATA = (EXIF, ICC)  # of pixels: their orientation and their colours
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
# Frames that libjpeg does not decode (also T.87), by their markers.
_NOT_DECODED = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical JPEG"),
    0xF7: "JPEG-LS",
}
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_MAKES_PIXELS = {*_FRAMES, 0xC4, 0xCC, _SOS, 0xDB, 0xDD}  # with tables and the restart interval
_KNOWN = bytes([*_MAKES_PIXELS, *range(0xE0, 0xF0), 0xFE])
# A segment behind padding: zeros, of which decoders warn, and 0xFF, which is allowed.
_SEGMENT = re.compile(rb"(\x00*+)\xff++([%s])(..)" % re.escape(_KNOWN), re.DOTALL)
_AFTER_SCAN = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")  # no stuffed byte, no restart
MAX_SEGMENTS = 10_000  # of one file; real files have a few hundred at most
MAX_SCANS = 300  # of one file; encoders write 10, and some up to 64
MIN_SCANS = 12  # that are allowed for any number of pixels
MAX_SCANNED = 4_000_000_000  # pixels times scans, of files with more scans
MAX_EXIF = 1 << 17  # bytes of EXIF that are parsed; a segment holds half of that
_SIGNATURES = {EXIF: b"Exif\0\0", ICC: b"ICC_PROFILE\0"}
_COLORS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}  # Pillow's modes in simplejpeg
_OF_METADATA = ("JFIF", "Adobe", "ICC")  # in libjpeg's warnings
_OF_PIXELS = ("Corrupt JPEG data", "Unsupported marker")


class Segment(NamedTuple):
    """A marker and its parameters, as data[start:end]."""

    marker: int
    start: int
    end: int


class Header(NamedTuple):
    """The segments of a JPEG up to its first scan, and what they contain."""

    segments: list[Segment]
    padding: int  # bytes between the segments
    exif: int  # bytes of EXIF
    pixels: int
    is_progressive: bool
    has_many_scans: bool  # its decoder holds all coefficients


def read_header(data: bytes) -> Header:
    """The header of a JPEG. Raises BadImage if its segments are damaged or too many."""
    segments, padding, at = [Segment(0, 0, 2)], 0, 2
    while segments[-1].marker != _SOS:
        found = _SEGMENT.match(data, at)
        end = found.end() - 2 + int.from_bytes(found[3]) if found else 0
        if found is None or not found.end() <= end < len(data):
            raise BadImage("unreadable", f"JPEG: its header is damaged at byte {at:,}")
        segments.append(Segment(found[2][0], found.start(2) - 1, end))
        padding += len(found[1])
        at = end
        _check_count(len(segments))
    exif = sum(end - start for marker, start, end in segments if marker == EXIF)
    frame = next((each for each in segments if each.marker in _FRAMES), None)
    if frame is None or frame.end < frame.start + 10:
        raise BadImage("unreadable", "JPEG: no frame before its first scan")
    bits = data[frame.start + 4]
    if kind := _NOT_DECODED.get(frame.marker, "" if bits == 8 else f"{bits}-bit JPEG"):
        raise BadImage("unreadable", f"{kind}: not decoded here; save it as PNG")
    height, width, components = struct.unpack_from(">HHB", data, frame.start + 5)
    is_progressive = frame.marker in _PROGRESSIVE
    has_many_scans = is_progressive or data[segments[-1].start + 4] < components
    return Header(segments[1:], padding, exif, height * width, is_progressive, has_many_scans)


def _check_count(count: int) -> None:
    if count > MAX_SEGMENTS:
        raise BadImage("unreadable", f"JPEG: more than {MAX_SEGMENTS:,} segments")


def check_scans(data: bytes, header: Header) -> None:
    """Raise BadImage if a JPEG has too many scans, or a progressive one lacks the last of them."""
    first = header.segments[-1]
    most = min(MAX_SCANS, max(MAX_SCANNED // max(header.pixels, 1), MIN_SCANS))
    # Every scan begins with these bytes; a video behind the image may hold them too.
    if not header.is_progressive and data.count(_SCAN, first.end) < most:
        return
    scans = list(_scans(data, first))
    if len(scans) > most:
        reason = f"JPEG: {len(scans):,} scans, more than {most} for {header.pixels:,} pixels"
        raise BadImage("unreadable", reason)
    if header.is_progressive and not _is_complete(scans):
        raise BadImage("unreadable", "JPEG: its last scans are missing")


def _scans(data: bytes, first: Segment) -> Iterator[bytes]:
    """The parameters of every scan of an image."""
    yield data[first.start + 4 : first.end]
    at = first.end
    for count in range(1, MAX_SEGMENTS + 2):
        found = _AFTER_SCAN.search(data, at)
        if found is None or found[1][0] == _EOI:
            return
        _check_count(count)
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
        if found[1][0] == _SOS:
            yield data[found.end() + 2 : at]


def _is_complete(scans: list[bytes]) -> bool:
    """Whether the scans of a progressive JPEG hold every bit of the coefficients they begin.

    Of the first component, which is the brightness, they must hold all coefficients.
    """
    missing: dict[tuple[int, int], int] = {}  # component and coefficient: the bits that are missing
    for scan in scans:
        components, (first, last, bits) = scan[1:-3:2], scan[-3:]
        for component in components[: scan[0]]:
            missing.update(((component, each), bits & 15) for each in range(first, last + 1))
    brightness = scans[0][1]
    return not any(missing.values()) and all((brightness, each) in missing for each in range(64))


def strip_metadata(data: bytes, header: Header, keep: Collection[int]) -> bytes:
    """The JPEG without padding and metadata, but for what to `keep` of METADATA.

    The segments of JFIF and Adobe stay, because they define the colours.
    """
    kept = [data[:2]]
    for marker, start, end in header.segments[:-1]:
        content = data[start + 4 : end]
        is_kept = marker in keep and content.startswith(_SIGNATURES[marker])
        if marker in _MAKES_PIXELS or is_kept:
            kept.append(data[start:end])
        elif marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 14:
            kept.append(data[start : start + 9] + b"\1" + data[start + 10 : end])  # its version
        elif marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12:
            kept.append(data[start:end])
    return b"".join([*kept, data[header.segments[-1].start :]])


def check_strictly(data: bytes) -> None:
    """Raise BadImage with libjpeg's warning of damaged pixels."""
    try:  # an eighth of each side takes little memory, and all pixels are read nevertheless
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        if any(word in str(error) for word in _OF_PIXELS):  # others may be of the grey colours
            raise BadImage("unreadable", f"damaged pixels: {error}") from error


def load_strictly(file: JpegImageFile, data: bytes) -> None:
    """Load the pixels of an opened JPEG, at the size of its draft; they are those of Pillow.

    Raises BadImage with libjpeg's warning or error, which Pillow does not report; ValueError if it
    warns of metadata.
    """
    if data.rfind(_END) < data.rfind(_SCAN):
        data += _END  # all pixels may be there nevertheless
    width, height = file.size
    try:
        pixels = simplejpeg.decode_jpeg(
            data, _COLORS[file.mode], min_height=height, min_width=width, strict=True
        )
    except ValueError as error:
        if any(word in str(error) for word in _OF_METADATA):
            raise
        raise BadImage("unreadable", f"damaged pixels: {error}") from error
    if pixels.shape[:2] != (height, width):
        raise BadImage("unreadable", "JPEG: its headers contradict one another")
    if file.mode == "CMYK":
        pixels = 255 - pixels  # as Pillow assumes of all of them, with Adobe
    if file.mode == "L":
        pixels = pixels[..., 0]
    file.im = Image.fromarray(pixels, file.mode).im
    file.tile = []
