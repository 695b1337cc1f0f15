"""Find the image that a path in a label file refers to, as people write paths."""

import itertools
import posixpath
from collections import defaultdict

from visionflows.datasets.folder_layout import nfc


class PathMatcher:
    """Matches paths with the images of a folder; `csv_folder` holds the CSV, if it is known."""

    def __init__(self, paths: list[str], folder: str, csv_folder: str):
        self.paths, self.folder, self.csv_folder = set(paths), folder, csv_folder
        self.by_name: dict[str, list[str]] = defaultdict(list)  # with the suffix, and without
        for path in paths:
            name = _normalised(posixpath.basename(path))
            for key in {name, posixpath.splitext(name)[0]}:
                self.by_name[key].append(path)

    def find(self, text: str) -> list[str]:
        """The images that a path may refer to: one, none or several.

        It is tried as it is, then with backslashes, in another Unicode form or case, without its
        folders or its suffix, and with more folders than the dataset has.
        """
        slashed = text.replace("\\", "/").strip()
        candidates = [text, *self._candidates(text), *self._candidates(slashed)]
        for candidate in candidates:
            if candidate in self.paths:
                return [candidate]
        written = posixpath.normpath(slashed)
        named = self.by_name.get(_normalised(posixpath.basename(written)), [])
        full = {path: _normalised(path) for path in named}
        forms = [full, {path: posixpath.splitext(form)[0] for path, form in full.items()}]
        for form in forms:
            for wanted in map(_normalised, candidates[1:]):
                if same := [path for path in named if form[path] == wanted]:
                    return _nearest(same, written)
            if below := [path for path in named if form[path].endswith(f"/{_normalised(written)}")]:
                return _nearest(below, written)
        parts = written.split("/")
        tails = ["/".join(parts[depth:]) for depth in range(1, len(parts))]
        for tail, form in itertools.product(tails, forms):
            if ends := [path for path in named if _ends_with(form[path], _normalised(tail))]:
                return _nearest(ends, tail)
        return []

    def _candidates(self, text: str) -> list[str]:
        """The path relative to the images' folder: as written, and seen from the CSV's folder."""
        candidates = [posixpath.normpath(text)]
        absolute = posixpath.normpath(posixpath.join(self.csv_folder, text))
        if self.csv_folder and absolute.startswith(f"{self.folder}/"):
            candidates.append(absolute[len(self.folder) + 1 :])
        return candidates


def _ends_with(path: str, tail: str) -> bool:
    """Whether a path ends in a tail with a folder: `dog/1.jpg` does not match `cat/1.jpg`."""
    return path == tail or ("/" in tail and path.endswith(f"/{tail}"))


def _normalised(path: str) -> str:
    return nfc(path).casefold()


def _nearest(paths: list[str], text: str) -> list[str]:
    """The only one of several that is spelled like the text; all if there is no such one."""
    same = [
        path
        for path in paths
        if any(nfc(form).endswith(nfc(text)) for form in (path, posixpath.splitext(path)[0]))
    ]
    return same if len(same) == 1 else paths
