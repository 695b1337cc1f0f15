"""Read the lists in a JSON object of unknown origin as a stream, within bounds.

Each item is decoded by the standard library, which refuses deep nesting. ijson is not used: its
memory grows with the square of the depth, and 64 KB of brackets take more than 8 GB.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

MAX_PART = 4 << 20  # characters of an item, or of a value that is no list
_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class JsonError(ValueError):
    """What is wrong with a file, in a few words."""


def read_items(chunks: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """The name and an item, for each item of the lists in the outermost object. Raises JsonError.

    Other values in it are skipped.
    """
    text = _Text(chunks)
    text.take("{")
    sign = "}" if text.skip("}") else ","
    while sign == ",":
        name = text.value()
        text.take(":")
        if not text.skip("["):
            text.value()
        elif not text.skip("]"):
            yield name, text.value()
            while text.take(",]") == ",":
                yield name, text.value()
        sign = text.take(",}")
    if text.peek():
        text.fail("something follows its end")


class _Text:
    """Text that is read as far as it is needed."""

    def __init__(self, chunks: Iterable[bytes]):
        self._chunks, self._decoder = iter(chunks), codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._passed = "", 0, 0

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._read():
                return self._text[self._at : self._at + 1]

    def skip(self, sign: str) -> bool:
        """Whether the next character is this one, which is then passed."""
        is_next = self.peek() == sign
        self._at += is_next
        return is_next

    def take(self, signs: str) -> str:
        """The next character, one of these. Raises JsonError for another."""
        if not (sign := self.peek()) or sign not in signs:
            self.fail(f"expected {' or '.join(signs)}")
        self._at += 1
        return sign

    def value(self) -> Any:
        """The next value. Raises JsonError."""
        self.peek()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except RecursionError:
                self.fail("too many brackets inside each other")
            except ValueError as error:
                if not self._read():
                    self.fail(getattr(error, "msg", "a number is too long"))
            else:
                if end < len(self._text) or not self._read():  # a number may go on
                    self._at = end
                    return value

    def fail(self, reason: str) -> Any:
        """Raise the JsonError."""
        raise JsonError(f"is not JSON ({reason}, at character {self._passed + self._at + 1:,})")

    def _read(self) -> bool:
        """Double the text that is left, at least by a chunk; False at the end."""
        left = len(self._text) - self._at
        if left > MAX_PART:
            raise JsonError(f"has a part of more than {MAX_PART:,} characters, or is not JSON")
        parts, added = [self._text[self._at :]], 0
        try:
            while added <= left and (chunk := next(self._chunks, b"")):
                parts.append(self._decoder.decode(chunk))
                added += len(parts[-1])
            if added <= left:
                self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise JsonError("is not UTF-8 text; save it as UTF-8") from error
        self._passed, self._text, self._at = self._passed + self._at, "".join(parts), 0
        return added > 0
