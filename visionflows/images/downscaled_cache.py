"""Large photos as they were decoded, kept so that a training decodes each of them once.

    from visionflows.images.downscaled_cache import CacheWriter, Reduced
    copies = Reduced(Path("cache/photos"), Opening(side=224))
    CacheWriter(copies).keep(sha256, image)               # while the table is made
    copies.get(sha256)                               # in every epoch; None: it has to be decoded

    <folder>/<what decoded it>/<sha256 of the file>.ppm

A copy is the decoded picture to the bit, so that a training with copies and one without are the
same training. It is not packed: of a photo of 12 megapixels, decoded to 1008 × 756, a PPM takes
2.2 MB and 1 ms to read, a PNG 1.5 MB and 19 ms, and a JPEG at quality 95 0.4 MB, 5 ms, and is
another picture. Each says its CRC: one that is torn or changed is none. All may be removed at any
time.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import re
import secrets
import shutil
import threading
import time
import zlib
from pathlib import Path

import PIL
from PIL import Image

from visionflows.hashing import sha256_of
from visionflows.images.decode_options import DecodeOptions

log = logging.getLogger("visionflows.reduced")

MOST_BYTES = 64 << 30  # of all copies, of however many trainings
WRITING = 3600.0  # seconds in which a draft may be that of another training, which is at it
_HEADER = re.compile(rb"P6\n# crc32 ([0-9a-f]{8})\n(\d{1,6}) (\d{1,6})\n255\n")


@dataclasses.dataclass(frozen=True)
class DownscaledCache:
    """The copies of files that these decode options, by these libraries, have made smaller."""

    folder: Path
    decode_options: DecodeOptions

    @functools.cached_property  # asked for every picture of every epoch; versions lie in files
    def own(self) -> Path:
        """Where its copies lie: apart from those of others that decode otherwise."""
        decoder = f"{self.decode_options}, Pillow {PIL.__version__}, {_versions()}"
        return self.folder / sha256_of(decoder.encode())[:16]

    def path(self, sha256: str) -> Path:
        """Where the copy of a file of this content lies, or would lie."""
        return self.own / f"{sha256}.ppm"

    def get(self, sha256: str) -> Image.Image | None:
        """The picture that a file of this content was decoded to; None where there is no copy."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError:
            return None
        header = _HEADER.match(data)
        if not header:
            return None
        width, height, pixels = int(header[2]), int(header[3]), memoryview(data)[header.end() :]
        if len(pixels) != 3 * width * height or zlib.crc32(pixels) != int(header[1], 16):
            return None
        return Image.frombytes("RGB", (width, height), pixels)


class CacheWriter:
    """Who makes copies, from many threads: of all copies at most `most` bytes, and half of what
    the disk has for them and for everything else.

    Copies of other trainings go first, the oldest before the others; those that this one has used
    stay. Where there is no more room, or no right to write, what is left is decoded every time.
    """

    def __init__(self, copies: DownscaledCache, most: int = MOST_BYTES):
        self.copies, self.most = copies, most
        self.ours: set[str] = set()
        self._lock = threading.Lock()
        self._older: list[tuple[float, int, Path]] | None = None  # the newest first
        self._bytes = 0
        self._full = False

    def keep(self, sha256: str, image: Image.Image) -> None:
        """Make a copy of a decoded picture, if there is none and there is room."""
        path = self.copies.path(sha256)
        with self._lock:
            self.ours.add(path.name)
        if self.copies.get(sha256):
            with contextlib.suppress(OSError):  # another training's is only older, or gone by now
                os.utime(path)
            return
        pixels = image.tobytes()
        header = b"P6\n# crc32 %08x\n%d %d\n255\n" % (zlib.crc32(pixels), *image.size)
        try:
            if self._room(len(header) + len(pixels)):
                _write(path, header + pixels)
        except OSError as error:
            self._stop(f"{error.strerror}")

    def _room(self, need: int) -> bool:
        """Whether so many bytes may be written, now that older copies have gone for them."""
        with self._lock:
            if self._full:
                return False
            if self._older is None:
                self._look()
            # The same for every copy, and less where others write on this disk meanwhile.
            disk = shutil.disk_usage(self.copies.own).free + self._bytes
            room = min(self.most, disk // 2)
            while self._older and self._bytes + need > room:
                _, size, path = self._older.pop()
                if path.name not in self.ours:
                    path.unlink(missing_ok=True)
                    self._bytes -= size
            if self._bytes + need > room:
                free = disk - self._bytes
                self._stop(f"{self._bytes >> 20} MB are taken, {free >> 20} MB are free")
                return False
            self._bytes += need
            return True

    def _look(self) -> None:
        """What lies there already, drafts of killed writers too."""
        self.copies.own.mkdir(parents=True, exist_ok=True)
        found = []
        for path in self.copies.folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # a draft that has its name by now
                told = path.stat()
                if not _is_temporary(path) or told.st_mtime < time.time() - WRITING:
                    found.append((told.st_mtime, told.st_size, path))
        self._older = sorted(found, reverse=True)
        self._bytes = sum(size for _, size, _ in found)

    def _stop(self, why: str) -> None:
        if not self._full:
            log.warning(
                "%s: no room for copies of more large photos (%s); those are decoded every epoch",
                *(self.copies.folder, why),
            )
        self._full = True


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".")


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all; what a power cut leaves of it has another CRC."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _versions() -> str:
    """Of what else makes pixels: ourselves, who turn, scale and lay them on white, too."""
    from importlib import metadata

    return ", ".join(f"{name} {metadata.version(name)}" for name in ("pi-heif", "visionflows"))
