"""Pictures that say what is where in others: masks, which lie beside photos under their names.

    from visionflows.datasets.masks import masks
    masks(["images/a.jpg", "annotations/trimaps/a.png"], place("pets"))   # the latter, if it is one

Datasets for segmentation are used for classification too, and a rule that looks at the name of a
file alone gives a mask its photo's label. fastai's PETS has one for every photo.
"""

import posixpath
import re
from collections import defaultdict

from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image
from visionflows.storage.base import Storage
from visionflows.storage.name_encoding import decode_name

MASK = "a mask: few colours, beside a picture of the same name"
# A word of a folder's name that its masks may have, and what the name of one may end in.
_FOLDER = re.compile(
    "annotations?|masks?|trimaps?|labels?|labeled|segmentations?|segmentation(class|object)|"
    "(ground)?truths?|gt|gtfine|seg|semantic"
)
_ENDS = re.compile(r"[\W_]+(mask|labels?|seg|segmentation|gt|trimap|l|p)$")
_COLOURS = 64  # at most, in a mask: classes, and their edges; a photo has thousands
_LOOKED_AT = 5  # pictures of a folder
_MOST = 0.9  # of a folder of masks have their picture elsewhere


def masks(paths: list[str], images: Storage) -> set[str]:
    """Those of a dataset's pictures, by their paths, that are masks of others.

    A folder is one of masks where its name says so, nearly all of its pictures have one of the same
    name elsewhere, and those that are looked at have few colours: photos of people with and without
    masks, numbered in each folder, are none.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    stems: set[str] = set()
    for path in paths:
        folder = posixpath.dirname(path)
        if _is_named_so(folder):
            folders[folder].append(path)
        else:
            stems.add(_stem(path))
    return {
        path
        for found in folders.values()
        if sum(not stems.isdisjoint(_stems(one)) for one in found) >= _MOST * len(found)
        and _have_few_colours(found, images)
        for path in found
    }


def _is_named_so(folder: str) -> bool:
    return any(_FOLDER.fullmatch(word) for word in re.split(r"[\W_]+", folder.casefold()))


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0].casefold()


def _stems(path: str) -> tuple[str, str]:
    """What the picture of a mask may be called."""
    stem = _stem(path)
    return stem, _ENDS.sub("", stem)


def _have_few_colours(found: list[str], images: Storage) -> bool:
    step = max(len(found) // _LOOKED_AT, 1)
    told = [_has_few_colours(path, images) for path in found[::step][:_LOOKED_AT]]
    return any(told) and False not in told


def _has_few_colours(path: str, images: Storage) -> bool | None:
    """Whether a picture has few colours; None where it cannot be opened."""
    try:
        return open_image(images.read(decode_name(path))).getcolors(_COLOURS) is not None
    except (BadImage, OSError):
        return None
