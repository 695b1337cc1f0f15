"""Find segmentation masks, which lie beside photos under the photos' names (fastai's PETS)."""

import posixpath
import re
from collections import defaultdict

from visionflows.datasets.format_names import format_name
from visionflows.errors import TableError
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MAX_PIXELS, shared_memory_limits
from visionflows.images.open import open_image
from visionflows.storage.base import Entry, Storage
from visionflows.storage.name_encoding import decode_name

MASK = "a mask: few colours, beside a picture of the same name"
_FOLDER = re.compile(  # a word in the name of a folder of masks
    "annotations?|masks?|trimaps?|labels?|labeled|segmentations?|segmentation(class|object)|"
    "(ground)?truths?|gt|gtfine|seg|semantic"
)
_SUFFIX = re.compile(r"[\W_]+(mask|labels?|seg|segmentation|gt|trimap|l|p)$")
_MAX_COLOURS = 64  # of a mask: classes and their edges; a photo has thousands
_SAMPLES = 5  # pictures of a folder that are opened
_MIN_SHARE = 0.9  # of the pictures in a folder of masks have a photo elsewhere


def find_masks(paths: list[str], images: Storage, classes: bool = False) -> set[str]:
    """The pictures of a dataset that are masks of others.

    All of three must hold for their folder: its name says so, nearly all pictures have one of the
    same name elsewhere, and a sample has few colours. If folders are `classes`, one beside others
    may be a class: it is if they have few colours too, else TableError is raised.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    photos: set[str] = set()
    for path in paths:
        folder = posixpath.dirname(path)
        if any(_FOLDER.fullmatch(word) for word in re.split(r"[\W_]+", folder.casefold())):
            folders[folder].append(path)
        else:
            photos.add(_stem(path))
    masks = {
        folder: found
        for folder, found in folders.items()
        if _have_photos(found, photos) and _have_few_colours(found, images)
    }
    others = [path for path in paths if posixpath.dirname(path) not in ("", *masks)]
    return {
        path
        for folder, found in masks.items()
        if not (classes and _is_class(folder, others, images))
        for path in found
    }


def _is_class(folder: str, others: list[str], images: Storage) -> bool:
    """Whether a folder is a class like those beside it. Raises TableError if that is unclear."""
    parent = posixpath.dirname(folder)
    beside = [path for path in others if posixpath.dirname(posixpath.dirname(path)) == parent]
    if beside and not _have_few_colours(beside, images):
        raise TableError(
            f"--labels folder: {format_name(folder)} may be a class, or hold the masks of the "
            f"images beside it, such as {format_name(beside[0])}; rename it if it is a class, "
            "else move it out"
        )
    return bool(beside)


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0].casefold()


def _have_photos(paths: list[str], photos: set[str]) -> bool:
    stems = map(_stem, paths)
    count = sum(not photos.isdisjoint({stem, _SUFFIX.sub("", stem)}) for stem in stems)
    return count >= _MIN_SHARE * len(paths)


def _have_few_colours(paths: list[str], images: Storage) -> bool:
    step = max(len(paths) // _SAMPLES, 1)
    entries = (Entry(decode_name(path), 0, "") for path in paths[::step][:_SAMPLES])
    contents = images.read_many(entries, shared_memory_limits(MAX_PIXELS).encoded)
    few = [_has_few_colours(content) for content in contents if isinstance(content, bytes)]
    return any(few) and False not in few


def _has_few_colours(content: bytes) -> bool | None:
    """Whether a picture has few colours; None if it cannot be opened."""
    try:
        return open_image(content).getcolors(_MAX_COLOURS) is not None
    except BadImage:
        return None
