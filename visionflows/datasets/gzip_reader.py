"""The content of a gzip file, trailing bytes ignored as by `gzip -d` and `tar xzf`.

Python's `gzip` calls a file broken that a program has signed or otherwise appended to.
"""

import io
import logging
import zlib
from pathlib import Path
from typing import Any

MAGIC = b"\x1f\x8b"
CHUNK = 1 << 16  # bytes of the file read at once

logger = logging.getLogger("visionflows.archive")


def open_gzip(path: str | Path, mode: str = "rb") -> io.BufferedIOBase:
    """The decompressed stream of all members of a gzip file.

    Reading raises zlib.error if one is broken, EOFError if the last one is cut short.
    """
    return _Gzip(Path(path))


class _Gzip(io.BufferedIOBase):
    def __init__(self, path: Path):
        self._file = path.open("rb")
        self._member: Any = zlib.decompressobj(wbits=31)  # 31: gzip's header and checksum
        self._packed = b""

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes (any number if 0 or less); empty at the end."""
        while not self._member.eof or self._next_member():
            packed = self._packed or self._file.read(CHUNK)
            data: bytes = self._member.decompress(packed, max(size or 0, 0))
            ended = self._member.eof
            self._packed = self._member.unused_data if ended else self._member.unconsumed_tail
            if data:
                return data
            if not packed and not ended:
                raise EOFError("it ends in the middle")
        return b""

    def _next_member(self) -> bool:
        """Whether another member follows; zeros may be between."""
        rest = self._packed.lstrip(b"\0")
        while len(rest) < len(MAGIC) and (more := self._file.read(CHUNK)):
            rest = (rest + more).lstrip(b"\0")
        if rest.startswith(MAGIC):
            self._member, self._packed = zlib.decompressobj(wbits=31), rest
            return True
        if rest:
            logger.warning("%s: trailing bytes after its end are ignored", self._file.name)
        self._packed = b""
        self._file.seek(0, io.SEEK_END)  # for the next read
        return False

    def close(self) -> None:
        self._file.close()
        super().close()
