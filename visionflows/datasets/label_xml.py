"""Labels in XML: Pascal VOC, a file for each image; and CVAT for images 1.1, one for all.

An image has the label of each object in it.
"""

import posixpath
from collections.abc import Iterator

from visionflows.bounded_read import TooLarge
from visionflows.datasets.format_names import format_name
from visionflows.datasets.label_file import LabelFile
from visionflows.datasets.listed_images import Listed
from visionflows.datasets.path_matching import PathMatcher
from visionflows.storage.base import SkippedFiles
from visionflows.storage.name_encoding import encode_name
from visionflows.xml_elements import Element, XmlError, read_elements

MAX_VOC_BYTES = 16 << 20  # of an image's file


def read_voc(folder: LabelFile, matcher: PathMatcher) -> list[Listed]:
    """The images of the XML files in a folder. Raises TableError.

    An image is found by the file name in its XML, else by the name of the XML itself.
    """
    images = []
    entries = [*folder.storage.walk(lambda name: name.lower().endswith(".xml"), SkippedFiles())]
    if not entries:
        folder.fail("has no .xml file; name the folder of the annotations")
    folder.check_count(len(entries))
    contents = folder.storage.read_many(entries, MAX_VOC_BYTES)
    for number, (entry, content) in enumerate(zip(entries, contents, strict=True), 1):
        name = encode_name(entry.name)
        try:
            if isinstance(content, TooLarge):
                raise XmlError(f"has {content.size:,} bytes, more than {MAX_VOC_BYTES:,}")
            if isinstance(content, OSError):
                raise XmlError(f"cannot be read ({content.strerror})")
            file_name, labels = _voc_image(content)
        except XmlError as error:
            folder.fail(f"{format_name(name)} {error}", error)
        beside = posixpath.join(posixpath.dirname(name), file_name) if file_name else ""
        paths = [path for path in (beside, posixpath.splitext(name)[0]) if path]
        path = next((path for path in paths if matcher.find(path).paths), paths[0])
        images.append(Listed(number, path, labels=labels))
    return images


def _voc_image(content: bytes) -> tuple[str, tuple[str, ...]]:
    """The file name and the labels in a VOC file. Raises XmlError."""
    file_name, labels, path = "", [], ""
    for path, _, text in read_elements([content]):
        if path == "annotation/filename":
            file_name = text.strip()
        elif path == "annotation/object/name":
            labels.append(text.strip())
    if path != "annotation":
        raise XmlError(f"is not of Pascal VOC: its first element is {format_name(path)}")
    if not all(labels):
        raise XmlError("has an object without a name; name it or take it out")
    return file_name, tuple(dict.fromkeys(labels))


def read_cvat(file: LabelFile) -> tuple[list[Listed], list[str]]:
    """The images of a file of CVAT, and the labels that it declares. Raises TableError."""
    images: list[Listed] = []
    declared: list[str] = []
    labels: dict[str, None] = {}
    for path, attributes, text in _cvat_elements(file):
        at = path.count("/")
        if path == "annotations/image":
            if not (name := attributes.get("name", "")):
                file.fail(f"image {len(images) + 1} has no name; export it again")
            images.append(Listed(len(images) + 1, name, labels=tuple(labels)))
            file.check_count(len(images))
            labels = {}
        elif at == 2 and path.startswith("annotations/image/"):
            if not (label := attributes.get("label", "").strip()):
                file.fail(f"image {len(images) + 1} has a {path[18:]} without a label; name it")
            labels[label] = None
        elif path.startswith("annotations/meta/") and path.endswith("/labels/label/name"):
            declared.append(text.strip())
    if not images:
        file.fail("lists no image; export it as CVAT for images 1.1")
    return images, declared


def _cvat_elements(file: LabelFile) -> Iterator[Element]:
    """The elements of a file of CVAT. Raises TableError."""
    path = ""
    try:
        for element in read_elements(file.chunks()):
            path = element.path
            yield element
    except XmlError as error:
        file.fail(str(error), error)
    if path != "annotations":
        file.fail(f"is not of CVAT: its first element is {format_name(path)}")
