"""Downscaled copies of large photos, so that a training decodes each photo once.

    <folder>/<decode options and library versions>/<sha256 of the file>.ppm

A copy is the decoded image, bit for bit, so that training with or without copies is the same. It
is uncompressed: a photo of 12 megapixels, decoded to 1008 × 756, takes 2.2 MB and 1 ms to read; a
PNG takes 1.5 MB and 19 ms. A copy whose CRC is wrong is ignored. All may be deleted at any time.
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
from importlib import metadata
from pathlib import Path

from PIL import Image

from visionflows.hashing import sha256_of
from visionflows.images.color_profiles import attach_profile, attached_profile
from visionflows.images.decode_options import DecodeOptions

log = logging.getLogger("visionflows.downscaled_cache")

MAX_BYTES = 64 << 30  # of all copies, for all trainings
STALE_SECONDS = 3600.0  # after which a temporary file is that of a killed writer
_HEADER = re.compile(rb"P6\n# crc32 ([0-9a-f]{8})\n(\d{1,6}) (\d{1,6})\n255\n")  # a profile last


@dataclasses.dataclass(frozen=True)
class DownscaledCache:
    """Copies of files that these decode options, with these library versions, downscale."""

    folder: Path
    decode_options: DecodeOptions

    @functools.cached_property  # read for every image of every epoch; versions are read from files
    def own_folder(self) -> Path:
        """The folder of these options and versions."""
        names = ("pillow", "pi-heif", "simplejpeg", "visionflows")
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
        return self.folder / sha256_of(f"{self.decode_options}, {versions}".encode())[:16]

    def path(self, sha256: str) -> Path:
        """The path of the copy of a file with this SHA-256, whether or not it exists."""
        return self.own_folder / f"{sha256}.ppm"

    def get(self, sha256: str) -> Image.Image | None:
        """The decoded image of a file with this SHA-256; None if there is no valid copy."""
        try:
            data = self.path(sha256).read_bytes()
        except OSError:
            return None
        header = _HEADER.match(data)
        if not header:
            return None
        width, height, pixels = int(header[2]), int(header[3]), memoryview(data)[header.end() :]
        if len(pixels) < 3 * width * height or zlib.crc32(pixels) != int(header[1], 16):
            return None
        image = Image.frombytes("RGB", (width, height), pixels[: 3 * width * height])
        attach_profile(image, bytes(pixels[3 * width * height :]))
        return image


class CacheWriter:
    """Writes copies, from many threads, up to `max_bytes` or half of the free disk space.

    The oldest copies of other trainings are deleted first; those that this training uses stay. When
    there is no room, or the folder cannot be written, the other images are decoded every epoch.
    """

    def __init__(self, cache: DownscaledCache, max_bytes: int = MAX_BYTES):
        self.cache, self.max_bytes = cache, max_bytes
        self._used: set[str] = set()
        self._lock = threading.Lock()
        self._older: list[tuple[float, int, Path]] | None = None  # newest first
        self._bytes = 0
        self._full = False

    def write(self, sha256: str, image: Image.Image) -> None:
        """Write a copy of a decoded image, if there is none and there is room."""
        path = self.cache.path(sha256)
        with self._lock:
            self._used.add(path.name)
        if self.cache.get(sha256):
            with contextlib.suppress(OSError):  # another training's, or deleted by now
                os.utime(path)
            return
        pixels = image.tobytes() + (attached_profile(image) or b"")
        header = b"P6\n# crc32 %08x\n%d %d\n255\n" % (zlib.crc32(pixels), *image.size)
        try:
            if self._make_room(len(header) + len(pixels)):
                _write_atomically(path, header + pixels)
        except OSError as error:
            self._stop(f"{error.strerror}")

    def _make_room(self, needed: int) -> bool:
        """Whether so many bytes may be written, after deleting older copies."""
        with self._lock:
            if self._full:
                return False
            if self._older is None:
                self._list_older()
            # The same for every copy, and less if others write to this disk meanwhile.
            disk = shutil.disk_usage(self.cache.own_folder).free + self._bytes
            room = min(self.max_bytes, disk // 2)
            while self._older and self._bytes + needed > room:
                _, size, path = self._older.pop()
                if path.name not in self._used:
                    path.unlink(missing_ok=True)
                    self._bytes -= size
            if self._bytes + needed > room:
                free = disk - self._bytes
                self._stop(f"{self._bytes >> 20} MB are used, {free >> 20} MB are free")
                return False
            self._bytes += needed
            return True

    def _list_older(self) -> None:
        """List the copies that exist, and the temporary files of killed writers."""
        self.cache.own_folder.mkdir(parents=True, exist_ok=True)
        found = []
        for path in self.cache.folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # a temporary file that was renamed
                status = path.stat()
                temporary = path.name.startswith(".")
                if not temporary or status.st_mtime < time.time() - STALE_SECONDS:
                    found.append((status.st_mtime, status.st_size, path))
        self._older = sorted(found, reverse=True)
        self._bytes = sum(size for _, size, _ in found)

    def _stop(self, reason: str) -> None:
        if not self._full:
            log.warning(
                "%s: no room for copies of more large photos (%s); those are decoded every epoch",
                *(self.cache.folder, reason),
            )
        self._full = True


def _write_atomically(path: Path, data: bytes) -> None:
    """Write a file that appears complete; a CRC reveals one that a power cut has damaged."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
