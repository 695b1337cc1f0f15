"""Which picture a path in a label file means, as people write paths.

    from visionflows.datasets.path_matching import Pictures
    Pictures(["cat/1.jpg"], "/data/pets", "").meant(r"C:\\photos\\cat\\1.JPG")    # ["cat/1.jpg"]

A path is looked up as it stands, then with backslashes, in another Unicode form or case, without
its folders or its ending, and with more folders than the dataset has.
"""

import itertools
import posixpath
from collections import defaultdict

from visionflows.datasets.folder_layout import nfc


class Pictures:
    """The pictures of a folder, found as people write their paths, in a CSV that lies `beside`."""

    def __init__(self, paths: list[str], folder: str, beside: str):
        self.paths, self.folder, self.beside = set(paths), folder, beside
        self.by_name: dict[str, list[str]] = defaultdict(list)  # with the ending, and without
        for path in paths:
            name = _plain(posixpath.basename(path))
            for key in {name, posixpath.splitext(name)[0]}:
                self.by_name[key].append(path)

    def meant(self, text: str) -> list[str]:
        """The pictures that a path may mean: one, none, or several."""
        if text in self.paths:
            return [text]
        slashed = text.replace("\\", "/").strip()
        spots = [*self._spots(text), *self._spots(slashed)]
        for spot in spots:
            if spot in self.paths:
                return [spot]
        wanted = [_plain(spot) for spot in spots]
        written = posixpath.normpath(slashed)
        found = self.by_name.get(_plain(posixpath.basename(written)), [])
        keyed = [{path: key(path) for path in found} for key in (_plain, _without_ending)]
        for keys in keyed:
            for spot in wanted:
                if same := [path for path in found if keys[path] == spot]:
                    return _nearest(same, written)
            if below := [path for path in found if keys[path].endswith(f"/{_plain(written)}")]:
                return _nearest(below, written)
        for tail, keys in itertools.product(_tails(written), keyed):
            if ends := [path for path in found if _ends_so(keys[path], _plain(tail))]:
                return _nearest(ends, tail)
        return []

    def _spots(self, text: str) -> list[str]:
        """Where in the folder a path may lead: from it, and from where the CSV lies."""
        spots = [posixpath.normpath(text)]
        full = posixpath.normpath(posixpath.join(self.beside, text))
        if self.beside and full.startswith(f"{self.folder}/"):
            spots.append(full[len(self.folder) + 1 :])
        return spots


def _tails(path: str) -> list[str]:
    """A path without its first folder, without its first two, and so on."""
    parts = path.split("/")
    return ["/".join(parts[at:]) for at in range(1, len(parts))]


def _ends_so(path: str, tail: str) -> bool:
    """Whether a picture's path ends in what is left of a written one.

    That is a folder at least, unless the picture lies in none: `dog/1.jpg` is not `cat/1.jpg`.
    """
    return path == tail or ("/" in tail and path.endswith(f"/{tail}"))


def _plain(path: str) -> str:
    return nfc(path).casefold()


def _without_ending(path: str) -> str:
    return posixpath.splitext(_plain(path))[0]


def _nearest(paths: list[str], text: str) -> list[str]:
    """The one of several that is written as the text is, if it is one; else all of them."""
    text = nfc(text)
    same = [
        path
        for path in paths
        if text in (nfc(path)[-len(text) :], nfc(posixpath.splitext(path)[0])[-len(text) :])
    ]
    return same if len(same) == 1 else paths
