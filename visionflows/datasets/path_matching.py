"""Find the image that a path in a label file refers to, as people write paths."""

import bisect
import posixpath
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

from visionflows.datasets.folder_layout import nfc

_MAX_SPELLINGS = 100  # of one path that are compared; more are ambiguous in any case
# What Label Studio writes: an upload by the hash and the name that it gave the file, and a local
# file by its path in the query.
_UPLOAD = re.compile(r"(.*/)?data/upload/\d+/[0-9a-f]{8}-(?P<name>[^/]+)", re.DOTALL)
_LOCAL_FILE = re.compile(r".*/local-files/\?d=(?P<name>.+)", re.DOTALL)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?P<name>[^?]+)(\?.*)?", re.DOTALL)
_UNPACKED = re.compile(r"-[0-9a-f]{8}$")  # of the folder of an archive, after its name


class Match(NamedTuple):
    """The images that a path may refer to, and the folders in it that lie above the dataset."""

    paths: list[str]
    above: str = ""


class PathMatcher:
    """Matches paths with the images of a folder; `csv_folder` holds the CSV, if it is known."""

    def __init__(self, paths: list[str], folder: str, csv_folder: str):
        self.paths, self.folder, self.csv_folder = set(paths), folder, csv_folder
        self._whole = _Index(paths, lambda path: path)
        self._stems = _Index(paths, lambda path: posixpath.splitext(path)[0])

    def find(self, text: str) -> Match:
        """The images that a path may refer to: one, none or several.

        It is tried as it is, then with backslashes, in another Unicode form or case, without its
        suffix, without some of its first folders, and with more folders than the dataset has. A
        folder that both have is never ignored: `a/1.jpg` is not `b/1.jpg`.
        """
        slashed = text.replace("\\", "/").strip()
        for candidate in (text, *self._candidates(text), *self._candidates(slashed)):
            if candidate in self.paths:
                return Match([candidate])
        matches = (self._match(written) for written in (slashed, *_as_exported(slashed)))
        return next((match for match in matches if match.paths), Match([]))

    def _match(self, written: str) -> Match:
        candidates = self._candidates(written)
        for index in (self._whole, self._stems):
            for found in (*map(index.equal, candidates), index.below(candidates[0])):
                if found:
                    return Match(found)
        matches = (index.above(candidates[0]) for index in (self._whole, self._stems))
        return next((match for match in matches if match.paths), Match([]))

    def is_own_folder(self, above: str) -> bool:
        """Whether the folders `above` the dataset in a path are those that it lies in."""
        own = _normalised(_UNPACKED.sub("", self.folder)).split("/")[::-1]
        parts = [part for part in _normalised(above).split("/")[::-1] if part not in ("", "..")]
        return all(a == b for a, b in zip(parts, own, strict=False))

    def _candidates(self, text: str) -> list[str]:
        """The path relative to the images' folder: as written, and seen from the CSV's folder."""
        candidates = [posixpath.normpath(text)]
        absolute = posixpath.normpath(posixpath.join(self.csv_folder, text))
        if self.csv_folder and absolute.startswith(f"{self.folder}/"):
            candidates.append(absolute[len(self.folder) + 1 :])
        return candidates


class _Index:
    """Images by a form of their paths that is read from its end: `1.jpg/cat/` for `cat/1.jpg`."""

    def __init__(self, paths: list[str], form: Callable[[str], str]):
        pairs = sorted((_key(form(path)), path) for path in paths)
        self._keys, self._paths = [key for key, _ in pairs], [path for _, path in pairs]
        self._parts = max((key.count("/") for key in self._keys), default=0)  # of a path, at most

    def equal(self, text: str) -> list[str]:
        """The images whose whole path this is."""
        key = _key(text)
        return self._between(key, bisect.bisect_right(self._keys, key), text)

    def below(self, text: str) -> list[str]:
        """The images whose path ends in this one."""
        key = _key(text)
        return self._between(key, bisect.bisect_left(self._keys, f"{key[:-1]}0"), text)

    def above(self, text: str) -> Match:
        """The images whose whole path is an end of this one, which has more folders."""
        parts = text.split("/")
        for depth in range(max(1, len(parts) - self._parts), len(parts)):
            if found := self.equal("/".join(parts[depth:])):
                return Match(found, "/".join(parts[:depth]))
        return Match([])

    def _between(self, key: str, end: int, text: str) -> list[str]:
        """The images from a key on; of several, the only one that is spelled like the text."""
        first = bisect.bisect_left(self._keys, key)
        found = self._paths[first : min(end, first + _MAX_SPELLINGS)]
        if len(found) < 2 or end - first > _MAX_SPELLINGS:
            return found
        same = [
            path
            for path in found
            if any(nfc(form).endswith(nfc(text)) for form in (path, posixpath.splitext(path)[0]))
        ]
        return same if len(same) == 1 else found


def _key(path: str) -> str:
    return "/".join(reversed(_normalised(path).split("/"))) + "/"


def _normalised(path: str) -> str:
    return nfc(path).casefold()


def _as_exported(text: str) -> Iterator[str]:
    """The path in what a tool wrote: without Label Studio's hash, out of a URL, unquoted."""
    for pattern in (_UPLOAD, _LOCAL_FILE, _URL):
        if match := pattern.fullmatch(text.partition("#")[0]):
            text = match["name"]
            break
    if "%" in text or match:
        yield unquote(text)
