"""The same labels of photos, written as each kind of label file, and as keywords."""

import json
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest
from conftest import picture
from PIL import Image

Labels = Mapping[str, Sequence[str]]  # by path

LABELS = {
    f"images/{at:03}.jpg": names
    for at, names in enumerate(
        [("cat", "sofa"), ("dog",), ("café table",), ("cat", "café table", "dog"), ("sofa",)] * 4
    )
}


def write_voc(labels: Labels, folder: Path) -> str:
    for path, names in labels.items():
        objects = "".join(
            f"<object><name>{escape(name)}</name><difficult>1</difficult>"
            "<part><name>head</name></part></object>"
            for name in (*names, *names[:1])
        )
        file = folder / "voc" / Path(path).with_suffix(".xml").name
        file.parent.mkdir(parents=True, exist_ok=True)
        name = f"<filename>{escape(Path(path).name)}</filename>"
        file.write_text(f"<annotation><folder>x</folder>{name}{objects}</annotation>")
    return f"voc:{folder}/voc"


def write_coco(labels: Labels, folder: Path) -> str:
    names = sorted({name for each in labels.values() for name in each})
    content = {
        "info": {"year": 2026},
        "images": [{"id": at, "file_name": path} for at, path in enumerate(labels)],
        "annotations": [
            {"id": at, "image_id": at, "category_id": 7 + names.index(name), "bbox": [0, 0, 1, 1]}
            for at, each in enumerate(labels.values())
            for name in (*each, *each[:1])
        ],
        "categories": [{"id": 7 + at, "name": name} for at, name in enumerate(names)],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return f"coco:{folder}/coco.json"


def write_cvat(labels: Labels, folder: Path) -> str:
    shapes = (
        *("<tag label={}/>", '<box label={} xtl="0"></box>', '<polygon label={} points="0,0"/>'),
        '<skeleton label={}><points label="1" points="2,3"/></skeleton>',
    )
    images = "".join(
        f"<image id='{at}' name={quoteattr(path)}>"
        + "".join(
            shapes[(at + number) % 4].format(quoteattr(name)) for number, name in enumerate(names)
        )
        + "</image>"
        for at, (path, names) in enumerate(labels.items())
    )
    text = f"<annotations><version>1.1</version>{images}</annotations>"
    (folder / "cvat.xml").write_text(text)
    return f"cvat:{folder}/cvat.xml"


def write_list_text(labels: Labels, folder: Path) -> str:
    lines = [f'{path},"{[*names]}"' for path, names in labels.items()]
    (folder / "lists.csv").write_text("\n".join(["image,label", *lines]))
    return f"csv:{folder}/lists.csv"


def write_one_hot(labels: Labels, folder: Path) -> str:
    classes = sorted({name for each in labels.values() for name in each})
    lines = [
        ",".join([path, "640", *(str(int(name in names)) for name in classes)])
        for path, names in labels.items()
    ]
    (folder / "ones.csv").write_text("\n".join([",".join(["path", "width", *classes]), *lines]))
    return f"csv:{folder}/ones.csv"


def write_separated(labels: Labels, folder: Path) -> str:
    """Needs --label-sep '|'."""
    lines = [f"{path},{'|'.join(names)}" for path, names in labels.items()]
    (folder / "separated.csv").write_text("\n".join(["path,label", *lines]))
    return f"csv:{folder}/separated.csv"


def xmp_of(flat: Sequence[str] = (), trees: Sequence[str] = ()) -> bytes:
    def bag(tag: str, items: Sequence[str]) -> str:
        inner = "".join(f"<rdf:li>{escape(item)}</rdf:li>" for item in items)
        return f"<{tag}><rdf:Bag>{inner}</rdf:Bag></{tag}>" if items else ""

    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta '
        'xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:lr="http://ns.adobe.com/lightroom/1.0/">'
        f"{bag('dc:subject', flat)}{bag('lr:hierarchicalSubject', trees)}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def iptc_of(names: Sequence[str], encoding: str = "utf-8") -> bytes:
    """The APP13 segment of a JPEG with these keywords."""
    data = b"\x1c\x01\x5a\x00\x03\x1b%G" if encoding == "utf-8" else b""
    for name in names:
        value = name.encode(encoding)
        data += b"\x1c\x02\x19" + struct.pack(">H", len(value)) + value
    data += b"\0" * (len(data) % 2)
    body = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


def keyword_file(photo: bytes, names: Sequence[str], way: str) -> bytes:
    """A JPEG with keywords written in one of four ways; its pixels are those of the photo."""
    if way in ("xmp", "tree"):
        xmp = xmp_of(names) if way == "xmp" else xmp_of(trees=[f"Things|{n}" for n in names])
        body = b"http://ns.adobe.com/xap/1.0/\0" + xmp
        segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    elif way == "iptc":
        segment = iptc_of(names)
    else:
        exif = Image.Exif()
        exif[0x9C9E] = (";".join(names) + "\0").encode("utf-16-le")
        body = exif.tobytes()
        segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    assert photo[:2] == b"\xff\xd8"
    return photo[:2] + segment + photo[2:]


def write_keywords(labels: Labels, photos: Path, copies: Path) -> None:
    """Copies of JPEG photos with keywords, each by another way; every fifth has an XMP file."""
    ways = ("xmp", "tree", "iptc", "windows", "sidecar")
    for at, (path, names) in enumerate(labels.items()):
        copy, way = copies / path, ways[at % 5]
        copy.parent.mkdir(parents=True, exist_ok=True)
        if way == "sidecar":
            shutil.copy(photos / path, copy)
            beside = copy.with_suffix(".xmp") if at % 2 else copy.with_name(f"{copy.name}.xmp")
            beside.write_bytes(xmp_of(names))
        else:
            copy.write_bytes(keyword_file((photos / path).read_bytes(), names, way))


WRITERS: dict[str, Callable[[Labels, Path], str]] = {
    "coco": write_coco,
    "cvat": write_cvat,
    "list text": write_list_text,
    "one-hot": write_one_hot,
    "separator": write_separated,
    "voc": write_voc,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos of LABELS."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    for at, path in enumerate(LABELS):
        picture(at, (40, 30)).save(folder / path, quality=95)
    return folder
