"""Label files that are damaged or hostile: one line each, in bounded time and memory."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from itertools import product

import pytest
from label_formats import LABELS, WRITERS, keyword_file, write_keywords, xmp_of
from label_tables import stopped

from visionflows.datasets import label_file, label_xml
from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.errors import VisionflowsError
from visionflows.images import keywords
from visionflows.images.image_status import BadImage

pytest_plugins = ["label_formats"]

BOMB = "<!DOCTYPE a [" + "".join(
    f'<!ENTITY e{at} "{f"&e{at - 1};" * 10 if at else "lol" * 10}">' for at in range(12)
)
FILES = {"coco": "coco.json", "cvat": "cvat.xml", "one-hot": "ones.csv", "list text": "lists.csv"}


def file_of(kind: str, folder):
    """The label file of a kind and its rule; of VOC the first one."""
    rule = WRITERS[kind](LABELS, folder)
    if kind == "voc":
        return sorted((folder / "voc").iterdir())[0], rule
    return folder / FILES[kind], rule


@pytest.mark.parametrize("kind", ["coco", "cvat", "voc", "one-hot"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"\n \n",
        lambda data: data[: len(data) * 2 // 3] + b'"',
        lambda data: data.replace(b"cat", b"c\xe4t"),
        lambda data: data.decode().encode("utf-16"),
        lambda data: b"\xff" + data,
        lambda data: b"\0" * 1000,
        lambda data: b"\x89PNG\r\n\x1a\n" + data,
        lambda data: b"PK\3\4" + data,
        lambda data: b"[" * 100_000,
        lambda data: b"<a>" * 100_000,
        lambda data: b'{"images": [' + b'{"id":' * 100_000,
        lambda data: b"null",
        lambda data: b"<!doctype html><html></html>",
    ],
    ids=lambda damage: "",
)
def test_a_damaged_file_is_one_line(photos, tmp_path, kind, damage):
    file, rule = file_of(kind, tmp_path)
    data = damage(file.read_bytes())
    file.write_bytes(data)
    with contextlib.suppress(VisionflowsError):  # XML says which encoding it has, so may be read
        build_table(photos, rule)
        assert kind in ("voc", "cvat")
        assert data[:2] == b"\xff\xfe"
        return
    assert rule.partition(":")[2] in stopped(photos, rule)


@pytest.mark.parametrize("kind", ["cvat", "voc"])
def test_entities_are_not_expanded(photos, tmp_path, kind):
    file, rule = file_of(kind, tmp_path)
    text = file.read_text()
    file.write_text(f"{BOMB}]>{text.replace('cat', '&e11;', 1)}")
    assert "has a DOCTYPE, which may hide anything; take it out" in stopped(photos, rule)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    file.write_text(f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>{text}')
    assert "has a DOCTYPE" in stopped(photos, rule)


def test_entities_of_keywords_are_not_expanded(photos, tmp_path):
    write_keywords(LABELS, photos, tmp_path)
    photo = (photos / "images/000.jpg").read_bytes()
    (tmp_path / "images/000.jpg").write_bytes(keyword_file(photo, ["cat"], "xmp"))
    (tmp_path / "images/000.xmp").write_text(f"{BOMB}]><a>&e11;</a>")
    table = build_table(tmp_path, "keywords")
    assert table.status[0] == "unlabelled"
    assert table.error[0].startswith("its keywords cannot be read: has a DOCTYPE")
    assert table.status[1:].eq("ok").all()


def test_too_many_keywords_are_refused(photos, tmp_path, monkeypatch):
    write_keywords(LABELS, photos, tmp_path)
    monkeypatch.setattr(keywords, "MAX_KEYWORDS", 2)
    (tmp_path / "images/000.xmp").write_bytes(xmp_of(["a", "b", "c"]))
    table = build_table(tmp_path, "keywords")
    assert table.error[0] == "its keywords cannot be read: has more than 2 keywords"


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda c: c["images"].clear(), "is not of COCO: it lacks images"),
        (lambda c: c.pop("categories"), "is not of COCO: it lacks categories"),
        (lambda c: c["images"].append(7), "images: item 21 is no object"),
        (lambda c: c["images"][0].pop("id"), "images: id is missing; write a number or a text"),
        (lambda c: c["images"][0].update(id=[1]), "images: id is [1]; write a number"),
        (lambda c: c["images"][0].update(id=True), "images: id is True"),
        (lambda c: c["images"][0].update(file_name=None), "images: file_name is missing"),
        (lambda c: c["images"][0].update(file_name="a" * 5000), "images: file_name is aaa"),
        (lambda c: c["annotations"][0].update(image_id=77), "annotations of image 77, which it"),
        (lambda c: c["annotations"][0].update(category_id="x"), "annotations of category x, wh"),
        (lambda c: c["categories"][0].update(name=" "), "categories: name is"),
        (lambda c: c["images"].append({"id": 0, "file_name": "x.jpg"}), "has two images 0"),
        (lambda c: c["categories"].append({"id": 7, "name": "x"}), "has two categories 7"),
    ],
)
def test_coco_that_is_not_understood_is_one_line(photos, tmp_path, change, says):
    file, rule = file_of("coco", tmp_path)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    assert says in stopped(photos, rule)


@pytest.mark.parametrize(
    "kind, old, new, says",
    [
        ("cvat", "<tag label='cat'", "<tag", "image 1 has a tag without a label"),
        ("cvat", "name='images/000.jpg'", "", "image 1 has no name"),
        ("cvat", "<image ", "<track ", "lists no image; export it as CVAT for images 1.1"),
        ("cvat", "annotations", "annotation", "is not of CVAT: its first element is annotation"),
        ("voc", "<name>cat</name>", "<name> </name>", "000.xml has an object without a name"),
        ("voc", "annotation>", "annotations>", "000.xml is not of Pascal VOC: its first element"),
    ],
)
def test_xml_that_is_not_understood_is_one_line(photos, tmp_path, kind, old, new, says):
    file, rule = file_of(kind, tmp_path)
    text = (
        file.read_text()
        .replace('"', "'")
        .replace("</image>", "</track>" if "track" in new else "</image>")
    )
    assert old in text
    file.write_text(text.replace(old, new))
    assert says in stopped(photos, rule)


OUTSIDE = ("/etc/passwd.jpg", "../secret.jpg", "images/../../secret.jpg")
# Only a COCO and a CVAT file can hold such names.
NO_NAMES = ("a\nb.jpg", "..", "/")


@pytest.mark.parametrize(
    "kind, path",
    [*product(sorted(WRITERS), OUTSIDE), *product(("coco", "cvat"), NO_NAMES)],
)
def test_paths_out_of_the_folder_name_no_image(photos, tmp_path, kind, path):
    shutil.copy(photos / "images/000.jpg", tmp_path / "secret.jpg")
    rule = WRITERS[kind]({**LABELS, path: ("cat",)}, tmp_path)
    separator = "|" if kind == "separator" else ""
    line = stopped(photos, parse_label_rule(rule, separator))
    assert "1 of its paths name no image in" in line


@pytest.mark.parametrize("kind", ["coco", "cvat", "voc"])
def test_hostile_class_names_are_made_printable(photos, tmp_path, kind):
    hostile = ("a\nb", "\u202egnp", "x" * 300, "=1+1", "<script>")
    labels = {path: (hostile[at % 5],) for at, path in enumerate(LABELS)}
    table = build_table(photos, WRITERS[kind](labels, tmp_path))
    assert table.label.nunique() == 5
    assert all(label.isprintable() for label in table.label)


@pytest.mark.parametrize("kind", ["coco", "cvat", "voc"])
def test_a_class_with_a_semicolon_is_refused(photos, tmp_path, kind):
    rule = WRITERS[kind]({**LABELS, "images/000.jpg": ("a;b",)}, tmp_path)
    assert "the class a;b has a ;, which parts the labels of an image" in stopped(photos, rule)


@pytest.mark.parametrize("kind", ["coco", "cvat", "voc", "one-hot", "list text"])
def test_no_more_images_are_listed_than_fit_into_memory(photos, tmp_path, kind, monkeypatch):
    _, rule = file_of(kind, tmp_path)
    monkeypatch.setattr(label_file, "MAX_LISTED", 10)
    assert "lists more than 10 images; list those of this dataset only" in stopped(photos, rule)


def test_a_csv_has_at_most_so_many_bytes(photos, tmp_path, monkeypatch):
    _, rule = file_of("one-hot", tmp_path)
    monkeypatch.setattr(label_file, "MAX_BYTES", 100)
    assert "bytes, more than 100; take out what is not used" in stopped(photos, rule)


def test_a_part_that_does_not_end_is_refused(photos, tmp_path, monkeypatch):
    for kind, text in (
        ("coco", '{"images": [{"id": "' + "a" * 9_000_000),
        ("cvat", '<annotations><image name="' + "a" * 9_000_000),
        ("coco", '{"info": "' + "a" * 9_000_000),
    ):
        file, rule = file_of(kind, tmp_path)
        file.write_text(text)
        assert "has a part of more than 4,194,304" in stopped(photos, rule)


def test_a_million_annotations_take_little_memory(photos, tmp_path):
    """As a program of its own, whose memory is that of the largest file so far."""
    file, _ = file_of("cvat", tmp_path)
    boxes = "<box label='cat' xtl='1' ytl='2' xbr='3' ybr='4'></box>" * 1000
    head, tail = file.read_text().split("</image>", 1)
    with file.open("w") as out:
        out.write(head)
        for _ in range(300):
            out.write(boxes)
        out.write(f"</image>{tail}")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from visionflows.datasets.label_file import LabelFile\n"
        "from visionflows.datasets.label_xml import read_cvat\n"
        "file = LabelFile.find(sys.argv[1], Path('.'), '')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(len(read_cvat(file)[0]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    images, kilobytes = map(int, ran.stdout.split())
    assert images == len(LABELS)
    assert kilobytes < 5_000
    assert file.stat().st_size > 15_000_000


def test_voc_files_have_at_most_so_many_bytes(photos, tmp_path, monkeypatch):
    _, rule = file_of("voc", tmp_path)
    monkeypatch.setattr(label_xml, "MAX_VOC_BYTES", 100)
    assert "000.xml has " in (line := stopped(photos, rule))
    assert line.endswith("bytes, more than 100")


@pytest.mark.timeout(20)
def test_a_path_of_many_folders_takes_no_time(photos, tmp_path):
    rule = WRITERS["coco"]({**LABELS, "a/" * 100_000 + "x.jpg": ("cat",)}, tmp_path)
    assert "images: file_name is a/a/" in stopped(photos, rule)
    rule = WRITERS["cvat"]({**LABELS, "a/" * 100_000 + "x.jpg": ("cat",)}, tmp_path)
    assert "1 of its paths name no image" in stopped(photos, rule)
    rule = WRITERS["cvat"](LABELS, tmp_path)
    text = (tmp_path / "cvat.xml").read_text()
    (tmp_path / "cvat.xml").write_text(text.replace("images/0", "a/" * 50_000 + "images/0"))
    assert build_table(photos, rule).path.tolist() == [*LABELS]


def test_a_photo_of_unfinished_xmp_takes_no_time(photos):
    """To search for an end from each of a million beginnings would take hours."""
    photo = (photos / "images/000.jpg").read_bytes()
    png = b"\x89PNG\r\n\x1a\n"
    began = time.process_time()
    for data in (photo + b"<x:xmpmeta" * 1_000_000, png + b"<x:xmpmeta" * 1_000_000):
        with contextlib.suppress(BadImage):
            assert not any(keywords.read_keywords(data).below(""))
    heic = b"\0\0\0\x18ftypheic" + b"<x:xmpmeta" * 1_000_000
    assert not any(keywords.read_keywords(heic).below(""))
    assert time.process_time() - began < 5
