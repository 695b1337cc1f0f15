"""Which files are pictures: by their first bytes; names only save the look.

    from visionflows.images.formats import HEAD, is_image_file, kind_of
    is_image_file("IMG_0001.JPG", read_head)            # True, and nothing is read
    kind_of(open("photo.jpg_large", "rb").read(HEAD)).name               # "JPEG"

Magic numbers are those of the formats' own documents, and of file(1).
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

HEAD = 512  # bytes of a file that tell what it is
MOST_ENDINGS = 20  # that are told of
UNSEEN = "cannot be read"  # in place of an ending: what of a file could not be told
# Endings of pictures, in any case, whether or not they can be decoded here: each gets its row.
IMAGE_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("avif", "bmp", "dib", "gif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg"),
        *("jpg", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
# Endings of what is no picture, so common beside pictures that looking at each would cost.
_OTHER_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("csv", "tsv", "txt", "md", "json", "jsonl", "xml", "xmp", "html", "htm", "log", "yaml"),
        *("yml", "ini", "toml", "py", "ipynb", "db", "pdf", "svg", "doc", "docx", "xls", "xlsx"),
        *("zip", "tar", "gz", "tgz", "7z", "rar", "zst", "npy", "npz", "pkl", "pt", "pth", "onnx"),
        *("safetensors", "parquet", "mp3", "mp4", "mov", "avi", "mkv", "webm", "wav", "aae"),
    )
)
# What may still open a file that no signature tells: TGA, which has none, last.
UNTOLD = ("BMP", "DIB", "PPM", "TGA")


class FileFormat(NamedTuple):
    """What a file is: its name for a person, and Pillow's name of what decodes it, if anything.

    `picture` says whether it gets a row, decodable or not. Not among the decoders: EPS, for which
    Pillow starts Ghostscript on the file, and ICO, which it decodes before its size can be asked.
    """

    name: str
    decoder: str = ""
    picture: bool = False

    @property
    def refused(self) -> str:
        """Why a file of this kind has no pixels here."""
        if self.picture:
            return f"{self.name}: not decoded here; save it as JPEG, PNG or TIFF"
        return f"{self.name}, not a picture"


def _decoded(name: str) -> FileFormat:
    return FileFormat(name, name, True)


JPEG, TIFF = _decoded("JPEG"), _decoded("TIFF")
HEIF, AVIF = _decoded("HEIF"), _decoded("AVIF")
CAMERA_RAW = FileFormat("camera raw (CR2, CR3, NEF, ARW, DNG or such)", picture=True)
_JXL, _ICO = FileFormat("JPEG XL", picture=True), FileFormat("icon (ICO)", picture=True)
_VIDEO, _SVG, _PAGE = FileFormat("a video"), FileFormat("an SVG"), FileFormat("a web page")
_MAGIC: tuple[tuple[int, bytes, FileFormat], ...] = (
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"\x89PNG\r\n\x1a\n", _decoded("PNG")),
    (0, b"GIF87a", _decoded("GIF")),
    (0, b"GIF89a", _decoded("GIF")),
    (8, b"WEBP", _decoded("WEBP")),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", _decoded("JPEG2000")),
    (0, b"\xff\x4f\xff\x51", _decoded("JPEG2000")),
    (0, b"\xff\x0a", _JXL),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", _JXL),
    (8, b"CR\x02\0", CAMERA_RAW),
    *((0, magic, CAMERA_RAW) for magic in (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"\0MRM")),
    *((0, magic, CAMERA_RAW) for magic in (b"FUJIFILMCCD-RAW", b"FOVb")),
    (6, b"HEAPCCDR", CAMERA_RAW),
    *((0, magic, TIFF) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (0, b"II\xbc", FileFormat("JPEG XR", picture=True)),
    (128, b"DICM", FileFormat("DICOM", picture=True)),
    (0, b"8BPS", FileFormat("Photoshop (PSD)", picture=True)),
    (0, b"\x76\x2f\x31\x01", FileFormat("OpenEXR", picture=True)),
    (0, b"#?RADIANCE", FileFormat("Radiance (HDR)", picture=True)),
    (0, b"qoif", FileFormat("QOI", picture=True)),
    (0, b"DDS ", FileFormat("DDS", picture=True)),
    (0, b"SIMPLE  =", FileFormat("FITS", picture=True)),
    (0, b"%PDF-", FileFormat("a PDF")),
    (0, b"%!PS", FileFormat("PostScript (EPS)")),
    (0, b"\xc5\xd0\xd3\xc6", FileFormat("PostScript (EPS)")),
    (0, b"PK\x03\x04", FileFormat("a zip archive")),
    (0, b"\x1f\x8b", FileFormat("a gzip archive")),
    (0, b"Rar!", FileFormat("a RAR archive")),
    (0, b"7z\xbc\xaf", FileFormat("a 7z archive")),
    (0, b"\x1a\x45\xdf\xa3", _VIDEO),
    (8, b"AVI ", _VIDEO),
    (0, b"\0\x05\x16\x07", FileFormat("what a Mac keeps beside a file (AppleDouble)")),
    (0, b"\xd0\xcf\x11\xe0", FileFormat("an Office or thumbnail database")),
    (
        0,
        b"version https://git-lfs",
        FileFormat("a Git LFS pointer (`git lfs pull` brings the file)"),
    ),
)
# Brands of the box `ftyp`, which HEIC shares with videos: ISO/IEC 23008-12, Annex B.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIF),
    **{b"avif": AVIF, b"avis": AVIF, b"crx ": CAMERA_RAW},
}
_BMP = re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)
_PNM = re.compile(rb"P[1-7fF][\s#]")
_XML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|!--|!doctype|svg|html|head|body)", re.IGNORECASE)


def detect_format(head: bytes) -> FileFormat | None:
    """What the first HEAD bytes of a file say it is; None where they say nothing.

    TGA has no signature, so a file of an unknown kind may still be one.
    """
    for offset, magic, kind in _MAGIC:
        if head.startswith(magic, offset):
            return kind
    if head[4:8] == b"ftyp":
        return _brand(head)
    if _BMP.match(head):
        return _decoded("BMP")
    if _PNM.match(head):
        return _decoded("PPM")
    if head.startswith(b"\0\0\1\0") and head[4:6] != b"\0\0" and head[9:10] == b"\0":
        return _ICO
    return _markup(head) if _XML.match(head) else None


def _brand(head: bytes) -> FileFormat:
    brand, others = head[8:12], head[16 : int.from_bytes(head[:4])]
    if brand in (b"mif1", b"msf1") and b"avif" in others:
        return AVIF
    return _BRANDS.get(brand, _VIDEO)


def _markup(head: bytes) -> FileFormat:
    text = head.lower()
    if b"<svg" in text or b"!doctype svg" in text:
        return _SVG
    return _PAGE if b"html" in text or b"<head" in text or b"<body" in text else FileFormat("XML")


def is_image_name(name: str) -> bool:
    """Whether a file name ends as a picture's does, in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_image_file(name: str, read_head: Callable[[], bytes]) -> bool:
    """Whether a file gets a row: by its ending where that is known, else by its first bytes.

    `read_head` gives the first HEAD bytes, and is asked only where the ending does not say.
    """
    if is_image_name(name):
        return True
    if name.lower().endswith(_OTHER_SUFFIXES):
        return False
    kind = detect_format(read_head())
    return kind is not None and kind.picture


class ImageFilter:
    """Which files of a place are pictures; `others` counts the rest, by their endings.

    `head` gives the first so many bytes of the file of a name, as Place.head does.
    """

    def __init__(self, head: Callable[[str, int], bytes]):
        self._head = head
        self.others: Counter[str] = Counter()

    def __call__(self, name: str) -> bool:
        told = _ending(name)
        try:
            picture = is_image_file(name, lambda: self._head(name, HEAD))
        except FileNotFoundError:  # gone: nothing says that it was a picture
            picture = False
        except OSError:  # closed to us, or not to be had: it may be one
            picture, told = False, UNSEEN
        if not picture:
            self.others[told] += 1
        return picture

    def by_ending(self) -> dict[str, int]:
        """How many files are no pictures, by ending: the commonest, and the rest together."""
        told = dict(self.others.most_common(MOST_ENDINGS))
        rest = self.others.total() - sum(told.values())
        return told | ({"other endings": rest} if rest else {})

    def lines(self) -> list[str]:
        """The same for a person, a line if there is anything to say."""
        return [f"no pictures: {format_counts(self.by_ending())}"] if self.others else []


def format_counts(by_ending: dict[str, int]) -> str:
    """How many files have which ending, for a person."""
    return ", ".join(f"{count} {ending}" for ending, count in by_ending.items())


def _ending(name: str) -> str:
    return os.path.splitext(name.rpartition("/")[2])[1].lower() or "no ending"
