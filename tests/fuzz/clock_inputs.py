"""The inputs of the fuzzer with a clock: sound ones, changed at random.

data = mutate(rng, rng.choice(images()), rng.choice(images()))
"""

import functools
import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
import zlib

from conftest import encoded, picture
from damaged_files import METADATA
from model_files import bundle_files
from PIL import Image

GROWN = 1 << 21  # bytes that a repeated piece may fill


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """The bytes with a few changes: values, lengths, cuts, pieces of another, repeated pieces."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(max(len(made), 1))
        piece = bytes(made[at : at + rng.choice((2, 4, 12, 46, 200, 4000))])
        change = rng.randrange(6)
        if change == 0:
            made[at : at + 1] = rng.choice((b"\0", b"\xff", rng.randbytes(1)))
        elif change == 1:
            made[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff" * 4, b"\0\0\xff\xff", b"\x7f" * 4))
        elif change == 2:
            del made[at : at + rng.choice((1, 100, len(made)))]
        elif change == 3:
            start = rng.randrange(len(other))
            made[at:at] = other[start : start + rng.choice((10, 1000, 10**6))]
        else:  # what is slow is often long
            made[at:at] = piece * (rng.randrange(GROWN) // max(len(piece), 1))
    return bytes(made[: 2 * GROWN])


def _chunks(count: int) -> bytes:
    """A PNG with many empty chunks."""
    data = encoded(picture(), "PNG")
    empty = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    return data[:33] + empty * count + data[33:]


def _scans(count: int) -> bytes:
    """A progressive JPEG that repeats its last scan."""
    data = encoded(picture(size=(800, 600)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


@functools.cache
def images() -> list[bytes]:
    kinds = [make(picture(size=(200, 150)))[0] for make in METADATA.values()]
    modes = [picture(size=(200, 150), mode=mode) for mode in ("RGB", "CMYK", "L")]
    kinds += [encoded(image, "JPEG", progressive=way) for image in modes for way in (0, 1)]
    kinds += [encoded(modes[0], format) for format in ("JPEG2000", "BMP", "PPM", "TGA", "MPO")]
    kinds += [
        encoded(modes[0], "TIFF", compression=name)
        for name in ("tiff_lzw", "jpeg", "zstd", "lzma", "packbits")
    ]
    frames = [picture(seed, (90, 60)) for seed in range(5)]
    for format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        kinds.append(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
    kinds += [_chunks(1000), _scans(20)]
    kinds.append(encoded(modes[2].convert("1"), "TIFF", compression="group4"))
    return kinds


@functools.cache
def archives() -> list[bytes]:
    files = {
        f"pets/{label}/{number}.jpg": images()[number] for label in "ab" for number in range(3)
    }
    tar, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as packed:
        for name, data in {**files, "x" * 300: b""}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return [tar.getvalue(), gzip.compress(tar.getvalue(), mtime=0), zipped.getvalue()]


@functools.cache
def photos() -> dict[str, bytes]:
    """Different photos of two classes, by path."""
    return {f"{'ab'[at % 2]}/{at}.jpg": encoded(picture(at)) for at in range(10)}


@functools.cache
def tables() -> list[bytes]:
    lines = [f"{name}{{0}}{name[0]}" for name in photos()]
    by_separator = [
        "\n".join([f"path{by}label", *(line.format(by) for line in lines)]) for by in ",;\t"
    ]
    quoted = 'path,label,split,group\r\n"a/0.jpg","a ""b""",train,1\r\n./b/1.jpg,b,valid,2\r\n'
    return [text.encode() for text in (*by_separator, quoted, by_separator[0] + "\n" * 50)]


@functools.cache
def label_files() -> list[bytes]:
    """Labels of the photos as COCO and CVAT, and of one as VOC."""
    names = [*photos()]
    coco = {
        "images": [{"id": at, "file_name": name} for at, name in enumerate(names)],
        "annotations": [{"image_id": at, "category_id": name[0]} for at, name in enumerate(names)],
        "categories": [{"id": name, "name": name} for name in "ab"],
    }
    images = "".join(f'<image name="{name}"><tag label="{name[0]}"/></image>' for name in names)
    voc = "<annotation><filename>a/0.jpg</filename><object><name>a</name></object></annotation>"
    texts = json.dumps(coco), f"<annotations>{images}</annotations>", voc
    return [text.encode() for text in texts]


def photos_with_keywords() -> list[bytes]:
    """Images, the first with keywords in XMP and for Windows."""
    xmp = (
        '<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:d="http://purl.org/dc'
        '/elements/1.1/"><r:Description><d:subject><r:Bag><r:li>cat</r:li></r:Bag></d:subject>'
        "</r:Description></r:RDF>"
    )
    exif = Image.Exif()
    exif[0x9C9E] = "cat;dog".encode("utf-16-le")
    both = [
        encoded(picture(1), name, xmp=xmp.encode(), exif=exif.tobytes())
        for name in ("JPEG", "WEBP")
    ]
    return [*both, *images()]


def lists() -> list[bytes]:
    return [b"a/0.jpg\n./b/0.jpg\n", b"path\r\na/0.jpg\r\n", b'path,status,error\n"a/,""",x,y\n']


@functools.cache
def model() -> dict[str, bytes]:
    """The files of a model."""
    return bundle_files()


def model_jsons() -> list[bytes]:
    text = model()["model.json"]
    return [text, json.dumps(json.loads(text), indent=4).encode()]


def weights() -> list[bytes]:
    from safetensors.torch import save

    return [model()["weights.safetensors"], save({})]
