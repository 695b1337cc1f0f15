"""Labels in COCO JSON: an image has the category of each annotation of it."""

from collections.abc import Iterator
from typing import Any

from visionflows.datasets.format_names import format_name
from visionflows.datasets.json_items import JsonError, read_items
from visionflows.datasets.label_file import MAX_LISTED, LabelFile
from visionflows.datasets.listed_images import Listed

_MAX_CATEGORIES = 100_000
_MAX_PAIRS = 4 * MAX_LISTED  # of an image and a category
_MAX_NAME = 4096  # characters
_LISTS = ("images", "annotations", "categories")
_Id = int | str


def read_coco(file: LabelFile) -> tuple[list[Listed], list[str]]:
    """The images of a file, and the categories that it declares. Raises TableError.

    The file is read as a stream: only its images and categories take memory.
    """
    names: dict[_Id, str] = {}
    categories: dict[_Id, str] = {}
    found: dict[_Id, set[_Id]] = {}  # categories by image
    used: dict[_Id, _Id] = {}  # categories that annotations name
    pairs = 0
    for kind, item in _items(file):
        if kind == "images":
            _add(file, kind, names, item, "file_name")
            file.check_count(len(names))
        elif kind == "categories":
            _add(file, kind, categories, item, "name")
        else:
            of_image = found.setdefault(_key(file, kind, item, "image_id"), set())
            category = _key(file, kind, item, "category_id")
            pairs += category not in of_image
            of_image.add(used.setdefault(category, category))
            file.check_count(len(found))
        if pairs > _MAX_PAIRS or max(len(categories), len(used)) > _MAX_CATEGORIES:
            file.fail(
                f"has more than {_MAX_CATEGORIES:,} categories, or {_MAX_PAIRS:,} labels of images"
            )
    for kind, known, named in (
        ("image", names, {*found}),
        ("category", categories, {*used}),
    ):
        if unknown := named - {*known}:
            file.fail(f"has annotations of {kind} {_shown(min(unknown, key=str))}, which it lacks")
    images = [
        Listed(at, name, labels=tuple(categories[each] for each in found.get(key, ())))
        for at, (key, name) in enumerate(names.items(), 1)
    ]
    return images, [*categories.values()]


def _items(file: LabelFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """The images, annotations and categories of a file, in its order."""
    counts = dict.fromkeys(_LISTS, 0)
    try:
        for kind, item in read_items(file.chunks()):
            if kind in _LISTS:
                counts[kind] += 1
                if not isinstance(item, dict):
                    file.fail(f"{kind}: item {counts[kind]} is no object")
                yield kind, item
    except JsonError as error:
        file.fail(str(error), error)
    for kind in ("images", "categories"):
        if not counts[kind]:
            file.fail(f"is not of COCO: it lacks {kind}")


def _add(
    file: LabelFile, kind: str, known: dict[_Id, str], item: dict[str, Any], name: str
) -> None:
    """Add an image or a category by its id."""
    key = _key(file, kind, item, "id")
    if key in known:
        file.fail(f"has two {kind} {_shown(key)}; take one out")
    known[key] = _text(file, kind, item, name)


def _key(file: LabelFile, kind: str, item: dict[str, Any], name: str) -> _Id:
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > _MAX_NAME:
        file.fail(f"{kind}: {name} is {_shown(value)}; write a number or a text")
    return value


def _text(file: LabelFile, kind: str, item: dict[str, Any], name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_NAME:
        file.fail(f"{kind}: {name} is {_shown(value)}; write a text, no longer than {_MAX_NAME:,}")
    return value.strip()


def _shown(value: object) -> str:
    return "missing" if value is None else format_name(str(value))
