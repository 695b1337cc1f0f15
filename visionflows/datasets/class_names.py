"""Notes on the names of classes: nearly the same, lists, or names of something else."""

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

from visionflows.datasets.folder_layout import split_role
from visionflows.datasets.format_names import first_three, format_name, format_names
from visionflows.images.formats import is_image_name

_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")  # of what people do not see


def class_notes(classes: Iterable[str]) -> list[str]:
    """Notes on unusual names of classes, which are printable; a line each."""
    classes, similar = sorted(classes), defaultdict(list)
    for name in classes:
        similar[_plain(name)].append(name)
    pairs = [" = ".join(map(format_name, names)) for names in similar.values() if len(names) > 1]
    notes = {
        "classes that differ only by case, spaces or the like": first_three(pairs),
        "labels like lists, each combination a class of its own": format_names(_lists(classes)),
        "classes named like files": format_names([*filter(is_image_name, classes)]),
        "classes named like the parts of a split": format_names([*filter(split_role, classes)]),
    }
    return [f"{note}: {names}" for note, names in notes.items() if names]


def _plain(name: str) -> str:
    """A class name without what people do not see: of `jet_black` and `Jet black`, 1 and 1.0."""
    text = unicodedata.normalize("NFKC", _ESCAPE.sub("", name)).casefold()
    plain = "".join(text.replace("_", " ").split())
    try:
        return str(float(plain))
    except ValueError:
        return plain


def _lists(classes: list[str]) -> list[str]:
    """The class names that are lists: in brackets, or of parts that other names have too."""
    parts = {name: [part.strip() for part in re.split("[|;,]", name)] for name in classes}
    counts = Counter(itertools.chain.from_iterable({*each} - {""} for each in parts.values()))
    return [
        name
        for name, each in parts.items()
        if re.fullmatch(r"\[.*\]|\{.*\}", name, re.DOTALL)
        or (len(each) > 1 and any(counts[part] > 1 for part in each))
    ]
