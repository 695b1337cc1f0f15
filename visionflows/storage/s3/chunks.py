"""Files that come and go in chunks.

from visionflows.storage.s3.chunks import ChunkReader, ChunkWriter
shutil.copyfileobj(ChunkReader(chunks), ChunkWriter(send, 16 << 20))
"""

import io
from collections.abc import Callable, Generator
from typing import Any


class ChunkReader(io.RawIOBase):
    """What chunks make together, as a stream of bytes; a chunk is asked for when it is needed."""

    def __init__(self, chunks: Generator[bytes, None, None]):
        self._chunks, self._chunk = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._chunk = self._chunk or memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._chunk))
        buffer[:count], self._chunk = self._chunk[:count], self._chunk[count:]
        return count

    def close(self) -> None:
        self._chunks.close()
        super().close()


class ChunkWriter(io.RawIOBase):
    """A file to fill that sends what is written in chunks of a size; `rest` was not sent yet."""

    def __init__(self, send: Callable[[bytes], None], size: int):
        self._send_chunk, self._size, self.rest = send, size, bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.rest += data
        while len(self.rest) >= self._size:
            self._send_chunk(bytes(self.rest[: self._size]))
            del self.rest[: self._size]
        return len(data)
