"""Read XML of unknown origin as a stream, within bounds.

The parser is expat of the standard library. Entities need a DOCTYPE, and a file with one is
refused, so none are ever expanded or fetched.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple
from xml.parsers import expat

MAX_DEPTH = 100  # elements inside each other
MAX_PART = 4 << 20  # bytes between the ends of two elements
_MAX_TEXT = 1 << 16  # characters in an element


class XmlError(ValueError):
    """What is wrong with a file, in a few words."""


class Element(NamedTuple):
    """An element, its path from the root with `/` between names, and the text in it."""

    path: str
    attributes: dict[str, str]
    text: str


def read_elements(chunks: Iterable[bytes], namespaces: bool = False) -> Iterator[Element]:
    """The elements of XML, each when it ends. Raises XmlError.

    With `namespaces` a name is its namespace, a space and its local part.
    """
    reader, since = _Reader(namespaces), 0
    for chunk in chunks:
        yield from (found := reader.parse(chunk))
        since = 0 if found else since + len(chunk)
        if since > MAX_PART:
            raise XmlError(f"has a part of more than {MAX_PART:,} bytes")
    yield from reader.parse(b"", is_last=True)


class _Reader:
    """The elements that are open, and those that ended in the last chunk."""

    def __init__(self, namespaces: bool):
        self._parser = expat.ParserCreate(namespace_separator=" " if namespaces else None)
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._add_text
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.buffer_text = True
        self._open: list[Element] = []
        self._ended: list[Element] = []

    def parse(self, chunk: bytes, is_last: bool = False) -> list[Element]:
        self._ended = []
        try:
            self._parser.Parse(chunk, is_last)
        except (expat.ExpatError, LookupError, ValueError) as error:  # also: unknown encodings
            if isinstance(error, XmlError):
                raise
            raise XmlError(f"is not XML ({error})") from error
        return self._ended

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) == MAX_DEPTH:
            raise XmlError(f"has more than {MAX_DEPTH} elements inside each other")
        path = f"{self._open[-1].path}/{name}" if self._open else name
        self._open.append(Element(path, attributes, ""))

    def _add_text(self, text: str) -> None:
        if (element := self._open[-1]).text or not text.isspace():
            if len(element.text) + len(text) > _MAX_TEXT:
                raise XmlError(f"has a text of more than {_MAX_TEXT:,} characters")
            self._open[-1] = element._replace(text=element.text + text)

    def _end(self, name: str) -> None:
        self._ended.append(self._open.pop())

    def _refuse(self, *declaration: object) -> None:
        raise XmlError("has a DOCTYPE, which may hide anything; take it out")
