"""Labels that photo managers wrote as keywords, into images or into XMP files beside them."""

import functools
from pathlib import Path

from visionflows.bounded_read import read_bounded
from visionflows.datasets.folder_layout import Row
from visionflows.errors import one_line
from visionflows.images.image_status import BadImage
from visionflows.images.keywords import Keywords, read_keywords, read_xmp
from visionflows.images.memory_limits import MAX_PIXELS, MemoryLimits
from visionflows.images.open import read_image_file
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.storage.prefetch import prefetch
from visionflows.system import decoder_count
from visionflows.xml_elements import XmlError

MAX_SIDECAR = 16 << 20  # bytes


def keyword_rows(folder: Path, paths: list[str], branch: str) -> list[Row]:
    """A row of path, label and labels for each image; without keywords, why it has no label."""
    row = functools.partial(_row, LocalStorage(folder), MemoryLimits(MAX_PIXELS), branch)
    return [*prefetch(row, paths, decoder_count(), 4 * decoder_count())]


def _row(images: LocalStorage, memory: MemoryLimits, branch: str, path: str) -> Row:
    try:
        found = _keywords(images.path(decode_name(path)), memory).below(branch)
    except (BadImage, XmlError, OSError) as error:
        return {
            "path": path,
            "label": "",
            "why": f"its keywords cannot be read: {one_line(str(error))}",
        }
    labels = tuple(label for each in found if (label := each.strip()))
    if not labels:
        why = f"has no keyword below {branch}" if branch else "has no keywords"
        return {"path": path, "label": "", "why": why}
    return {"path": path, "label": labels[0], "labels": labels}


def _keywords(image: Path, memory: MemoryLimits) -> Keywords:
    """The keywords of an image and its sidecars. Raises BadImage, XmlError and OSError."""
    with memory.files.reserve(image.stat().st_size):
        keywords = read_keywords(read_image_file(image, memory.encoded))
    for ending in (".xmp", ".XMP"):
        for sidecar in {image.with_suffix(ending), image.with_name(image.name + ending)}:
            if sidecar.is_file():
                keywords += read_xmp(read_bounded(sidecar, MAX_SIDECAR))
    return keywords
