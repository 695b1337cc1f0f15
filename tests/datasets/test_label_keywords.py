"""Labels from keywords in photos and beside them."""

import struct
import zlib

import pytest
from label_formats import LABELS, iptc_of, keyword_file, write_keywords, xmp_of
from label_tables import make, stopped
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from visionflows.datasets.file_table import build_table

pytest_plugins = ["label_formats"]


def rows_of(folder, rule="keywords"):
    table = build_table(folder, rule)
    return dict(zip(table.path, table.label, strict=True)), dict(
        zip(table.path, table.error, strict=True)
    )


def test_a_branch_of_the_tree(photos, tmp_path):
    trees = (
        ["Species|Bird|Robin", "Places|Berlin"],
        ["species|Mammal|Fox", "Species|Mammal"],
        ["Places|Species|Robin"],
        ["Species"],
        ["Species|Bird|Robin"],
        ["Species|Mammal|Fox", "Species|Bird|Wren"],
        ["Species|Bird|Wren"],
    )
    for at, (path, each) in enumerate(zip(LABELS, trees, strict=False)):
        image = Image.open(photos / path)
        image.save(tmp_path / f"{at}.jpg", xmp=xmp_of(["Robin", "Berlin"], each))
    labels, errors = rows_of(tmp_path, "keywords:Species")
    assert [*labels.values()] == [*("Robin", "Fox;Mammal", "", "", "Robin", "Fox;Wren", "Wren")]
    assert errors["2.jpg"] == errors["3.jpg"] == "has no keyword below Species"
    assert rows_of(tmp_path, "keywords:Species|Bird")[0]["1.jpg"] == ""
    assert rows_of(tmp_path)[0]["0.jpg"] == "Berlin;Robin"


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff", "avif"])
def test_keywords_of_each_format(photos, tmp_path, ending):
    for at, name in enumerate(["cat", "dog", "cat", "dog"]):
        image, xmp = Image.open(photos / f"images/{at:03}.jpg"), xmp_of([name, "x & y"])
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
        options = {"png": {"pnginfo": text}, "tiff": {"tiffinfo": {700: xmp}}}
        image.save(tmp_path / f"{at}.{ending}", **options.get(ending, {"xmp": xmp}))
    assert [*rows_of(tmp_path)[0].values()] == ["cat;x & y", "dog;x & y"] * 2


def test_keywords_of_a_png_behind_its_pixels(photos, tmp_path):
    write_keywords(LABELS, photos, tmp_path)
    image = Image.open(photos / "images/000.jpg")
    image.save(tmp_path / "a.png")
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_of(["late"])
    data = (tmp_path / "a.png").read_bytes()
    chunk = struct.pack(">I", len(text)) + b"iTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"iTXt" + text))
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk + data[-12:])
    assert rows_of(tmp_path)[0]["a.png"] == "late"


def test_iptc_of_old_programs_and_photos_without_keywords(photos, tmp_path):
    make_jpeg = (photos / "images/000.jpg").read_bytes()
    for at in range(6):
        data = (photos / f"images/{at:03}.jpg").read_bytes()
        segment = iptc_of(["Bär" if at % 2 else "Fuß"], "cp1252")
        (tmp_path / f"{at}.jpg").write_bytes(data[:2] + segment + data[2:])
    (tmp_path / "none.jpg").write_bytes(make_jpeg + b"\0")
    both = keyword_file(keyword_file(make_jpeg, ["Bär"], "iptc"), ["Bär", "Fuß"], "xmp")
    (tmp_path / "both.jpg").write_bytes(both)
    (tmp_path / "broken.jpg").write_bytes(make_jpeg + b"\1")
    (tmp_path / "broken.xmp").write_bytes(xmp_of(["a"])[:-60])
    labels, errors = rows_of(tmp_path)
    assert [labels[f"{at}.jpg"] for at in range(6)] == ["Fuß", "Bär"] * 3
    assert errors["none.jpg"] == "has no keywords"
    assert labels["both.jpg"] == "Bär;Fuß"
    assert errors["broken.jpg"].startswith("its keywords cannot be read: is not XML (")


def test_a_folder_without_keywords_is_an_error(tmp_path):
    make(tmp_path, "a/1.jpg", "a/2.jpg")
    assert "--labels keywords: matches no file, such as" in stopped(tmp_path, "keywords")
