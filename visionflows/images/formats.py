"""Which files are images: by their extension, else by their first bytes.

Signatures are those of the formats' own specifications, and of file(1).
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

from visionflows.escaping import printable


class Named(Protocol):
    """A file with a name, such as an entry of a storage location."""

    @property
    def name(self) -> str: ...


File = TypeVar("File", bound=Named)

HEAD = 512  # bytes of a file in which its format shows
MAX_EXTENSIONS = 20  # that are listed by name
BATCH = 1000  # files of which those without a known extension are read at once
# Extensions of images, whether or not they can be decoded here: each file gets a row.
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe"),
    *(".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# Other common extensions next to images, so that those files need not be opened.
_OTHER_SUFFIXES = (
    *(".csv", ".tsv", ".txt", ".md", ".json", ".jsonl", ".xml", ".xmp", ".html", ".htm", ".log"),
    *(".yaml", ".yml", ".ini", ".toml", ".py", ".ipynb", ".db", ".pdf", ".svg", ".doc", ".docx"),
    *(".xls", ".xlsx", ".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".zst", ".npy", ".npz"),
    *(".pkl", ".pt", ".pth", ".onnx", ".safetensors", ".parquet", ".mp3", ".mp4", ".mov", ".avi"),
    *(".mkv", ".webm", ".wav", ".aae"),
)
_SUFFIXES = (*IMAGE_SUFFIXES, *_OTHER_SUFFIXES)
# Decoders that are tried on files of unknown signature; TGA has none.
WITHOUT_SIGNATURE = ("BMP", "DIB", "PPM", "TGA")


class FileFormat(NamedTuple):
    """A file format: its name, Pillow's decoder of it if any, and whether it is an image's.

    There is no decoder for EPS, for which Pillow runs Ghostscript, nor for ICO, which Pillow
    decodes before its size is known.
    """

    name: str
    decoder: str = ""
    is_image: bool = False

    @property
    def refusal(self) -> str:
        """Why a file of this format is not decoded."""
        if self.is_image:
            return f"{self.name}: not decoded here; save it as JPEG, PNG or TIFF"
        return f"{self.name}, not an image"


def _decoded(name: str) -> FileFormat:
    return FileFormat(name, name, True)


JPEG, TIFF, JPEG2000 = _decoded("JPEG"), _decoded("TIFF"), _decoded("JPEG2000")
HEIF, AVIF = _decoded("HEIF"), _decoded("AVIF")
ISOLATED = (TIFF, JPEG2000, HEIF, AVIF)  # their decoders read all at once: images.isolation
CAMERA_RAW = FileFormat("camera raw (CR2, CR3, NEF, ARW, DNG or such)", is_image=True)
_VIDEO = FileFormat("a video")
_XML = rb"(?=(?:\xef\xbb\xbf)?\s*<(?i:\?xml|!--|!doctype|svg|html|head|body))"
# How a file of each format begins; the first that matches counts.
_SIGNATURES = [
    (format, re.compile(pattern, re.DOTALL))
    for format, pattern in (
        (JPEG, rb"\xff\xd8\xff"),
        (FileFormat("PNG packed for iOS (CgBI)", is_image=True), rb"\x89PNG.{8}CgBI"),
        (_decoded("PNG"), rb"\x89PNG\r\n\x1a\n"),
        (_decoded("GIF"), rb"GIF8[79]a"),
        (_decoded("WEBP"), rb".{8}WEBP"),
        (JPEG2000, rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
        (FileFormat("JPEG XL", is_image=True), rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        (CAMERA_RAW, rb".{8}CR\x02\0|IIR[OS]|IIU\0|MMOR|\0MRM|FUJIFILMCCD-RAW|FOVb|.{6}HEAPCCDR"),
        (TIFF, rb"II[*+]\0|MM\0[*+]"),
        (FileFormat("JPEG XR", is_image=True), rb"II\xbc"),
        (FileFormat("DICOM", is_image=True), rb".{128}DICM"),
        (FileFormat("Photoshop (PSD)", is_image=True), rb"8BPS"),
        (FileFormat("OpenEXR", is_image=True), rb"\x76\x2f\x31\x01"),
        (FileFormat("Radiance (HDR)", is_image=True), rb"#\?RADIANCE"),
        (FileFormat("QOI", is_image=True), rb"qoif"),
        (FileFormat("DDS", is_image=True), rb"DDS "),
        (FileFormat("FITS", is_image=True), rb"SIMPLE  ="),
        (FileFormat("a PDF"), rb"%PDF-"),
        (FileFormat("PostScript (EPS)"), rb"%!PS|\xc5\xd0\xd3\xc6"),
        (FileFormat("a zip archive"), rb"PK\x03\x04"),
        (FileFormat("a gzip archive"), rb"\x1f\x8b"),
        (FileFormat("a RAR archive"), rb"Rar!"),
        (FileFormat("a 7z archive"), rb"7z\xbc\xaf"),
        (_VIDEO, rb"\x1a\x45\xdf\xa3|.{8}AVI "),
        (FileFormat("AppleDouble metadata of a Mac"), rb"\0\x05\x16\x07"),
        (FileFormat("an Office or thumbnail database"), rb"\xd0\xcf\x11\xe0"),
        (FileFormat("a Git LFS pointer (run `git lfs pull`)"), rb"version https://git-lfs"),
        (_decoded("BMP"), rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
        (FileFormat("PAM (Netpbm with any number of channels)", is_image=True), rb"P7[\s#]"),
        (FileFormat("PFM in colour", is_image=True), rb"PF[\s#]"),
        (_decoded("PPM"), rb"P[1-6f][\s#]"),
        (FileFormat("icon (ICO)", is_image=True), rb"\0\0\x01\0(?!\0\0).{5}\0"),
        (FileFormat("an SVG"), _XML + rb".*(?i:<svg|!doctype svg)"),
        (FileFormat("a web page"), _XML + rb".*(?i:html|<head|<body)"),
        (FileFormat("XML"), _XML),
    )
]
# Brands of the box `ftyp`, which HEIC shares with videos: ISO/IEC 23008-12, Annex B. Those of a
# codec count before those of the container.
_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_CODECS = {**dict.fromkeys(_HEVC, HEIF), b"avif": AVIF, b"avis": AVIF, b"crx ": CAMERA_RAW}
_CONTAINERS = dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf"), HEIF)


def detect_format(head: bytes) -> FileFormat | None:
    """The format of a file from its first HEAD bytes; None if unknown (it may still be a TGA)."""
    for format, signature in _SIGNATURES:
        if signature.match(head):
            return format
    return _brand(head) if head[4:8] == b"ftyp" else None


def _brand(head: bytes) -> FileFormat:
    """The format by the major brand, else by the first compatible one that is known."""
    end = min(int.from_bytes(head[:4]), HEAD)
    brands = [head[at : at + 4] for at in (8, *range(16, end, 4))]
    for known in (_CODECS, _CONTAINERS):
        for brand in brands:
            if brand in known:
                return known[brand]
    return _VIDEO


def is_image_name(name: str) -> bool:
    """Whether a file name has an image's extension, in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


class ImageFilter:
    """Which files of a storage location are images; `others` counts the rest, by extension.

    `read_heads` returns the first bytes of files, as Storage.heads does.
    """

    def __init__(self, read_heads: Callable[[Iterable[str], int], Iterable[bytes | OSError]]):
        self._read_heads = read_heads
        self.others: Counter[str] = Counter()

    def __call__(self, files: Iterable[File]) -> Iterator[File]:
        """The images among files, in order: by extension if known, else by their first bytes.

        A file that may be an image but cannot be read counts as one, so that it gets a row.
        """
        remaining = iter(files)
        for file in remaining:
            batch, heads = [file], {}
            if not _is_known(file):
                batch += itertools.islice(remaining, BATCH - 1)
                names = [one.name for one in batch if not _is_known(one)]
                heads = dict(zip(names, self._read_heads(names, HEAD), strict=True))
            yield from (one for one in batch if self._is_image(one.name, heads.get(one.name)))

    def _is_image(self, name: str, head: bytes | OSError | None) -> bool:
        """Whether a file is an image, by its head unless that is None; any other is counted."""
        is_image = is_image_name(name) if head is None else _may_be_image(head)
        if not is_image:
            extension = os.path.splitext(name.rpartition("/")[2])[1].lower()
            self.others[printable(extension) or "no extension"] += 1
        return is_image

    def by_extension(self) -> dict[str, int]:
        """How many files are no images, by extension; the rarer ones are counted together."""
        counts = dict(self.others.most_common(MAX_EXTENSIONS))
        rest = self.others.total() - sum(counts.values())
        return counts | ({"other extensions": rest} if rest else {})


def _is_known(file: Named) -> bool:
    return file.name.lower().endswith(_SUFFIXES)


def _may_be_image(head: bytes | OSError) -> bool:
    if isinstance(head, OSError):
        return not isinstance(head, FileNotFoundError)  # deleted since it was listed
    format = detect_format(head)
    return format is not None and format.is_image


def format_counts(by_extension: dict[str, int]) -> str:
    """The counts as text, such as `2 .csv, 1 no extension`."""
    return ", ".join(f"{count} {extension}" for extension, count in by_extension.items())
