"""Label CSVs of cameras, Kaggle and annotation tools, and files that are no CSV."""

import gzip
import time
from pathlib import Path

import pytest
from label_tables import PICTURES, csv_of, make, stopped

from visionflows.datasets.file_table import build_table
from visionflows.datasets.path_matching import PathMatcher


@pytest.fixture
def photos(tmp_path) -> Path:
    return make(tmp_path / "photos", *PICTURES)


CARD = [f"100EK113/RCNX{at:04}.JPG" for at in range(8)]


def test_labels_of_another_camera_are_never_those_of_the_same_file_name(tmp_path):
    make(tmp_path / "traps", *(f"siteB/{name}" for name in CARD))
    rule = csv_of(tmp_path, "path,label", *(f"siteA/{name}" for name in CARD))
    assert "8 of its paths name no image in" in stopped(tmp_path / "traps", rule)
    both = [*(f"siteA/{name}" for name in CARD[:4]), *(f"siteB/{name}" for name in CARD[4:])]
    rule = csv_of(tmp_path, "path,label", *both)
    for folder in ("traps", "traps/siteB"):
        assert "4 of its paths name no image in" in stopped(tmp_path / folder, rule)


def test_other_folders_above_the_dataset_are_noted(tmp_path):
    """They may be the same images, moved, or those of another camera."""
    make(tmp_path / "siteB", *CARD)
    own, other = ([f"{site}/{name}" for name in CARD] for site in ("siteB", "siteA"))
    table = build_table(tmp_path / "siteB", csv_of(tmp_path, "path,label", *own))
    assert table.attrs["notes"] == []
    table = build_table(tmp_path / "siteB", csv_of(tmp_path, "path,label", *other))
    (note,) = table.attrs["notes"]
    assert note.startswith("its paths begin with siteA, which is not the folder of the dataset")


def test_an_image_that_two_folders_name_is_an_error(tmp_path):
    make(tmp_path / "photos", "1.jpg", "2.jpg")
    rule = csv_of(tmp_path, "path,label", "a/1.jpg", "b/2.jpg", "b/1.jpg")
    line = stopped(tmp_path / "photos", rule)
    assert "names 1.jpg twice, with different values or folders (lines 2 and 4)" in line


@pytest.mark.parametrize("site", ["siteA", "siteB"])
def test_a_column_of_folders_is_part_of_the_path(tmp_path, site):
    """Timelapse writes RelativePath and File."""
    make(tmp_path, *(f"{card}/{name}" for card in ("siteA", "siteB") for name in CARD))
    lines = [rf"root,{name[9:]},{site}\100EK113,{'ab'[at % 2]}" for at, name in enumerate(CARD)]
    (tmp_path / "t.csv").write_text("\n".join(["RootFolder,File,RelativePath,Species", *lines]))
    table = build_table(tmp_path, f"csv:{tmp_path}/t.csv")
    assert table.path.tolist() == [f"{site}/{name}" for name in CARD]


def test_ids_of_kaggle_mean_the_images_to_train_on(tmp_path):
    make(tmp_path, *(f"{part}/{at}.jpg" for part in ("train", "test") for at in range(8)))
    table = build_table(tmp_path, csv_of(tmp_path, "id,label", *map(str, range(8))))
    assert table.path.tolist() == [f"train/{at}.jpg" for at in range(8)]
    assert any("8 names are of a test image too" in line for line in table.attrs["notes"])


def test_thousands_of_folders_with_the_same_names_take_linear_time(tmp_path):
    paths = [f"site{at:04}/IMG_0001.JPG" for at in range(4000)]
    matcher = PathMatcher(paths, "/photos", "")
    began = time.perf_counter()
    for path in paths:
        assert matcher.find(path.lower().removesuffix(".jpg")).paths == [path]
        assert matcher.find(f"D:\\cards\\{path}").paths == [path]
    assert time.perf_counter() - began < 5


# What is no CSV, or has no columns to use


@pytest.mark.parametrize(
    "data, says",
    [
        ("path,label\n".encode("utf-16"), "UTF-16 text, such as Excel's Unicode Text; save"),
        ("path,label\n1.jpg,caf\xe9\n".encode("cp1252"), "perhaps Windows-1252 ('é' in line 2)"),
        ("path,label\n".encode("utf-16-le") * 20, "UTF-16 text, or no text; save it as"),
        (b"PK\3\4" + bytes(300), "is an Excel workbook, or a zip; save it as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(300), "a workbook of an old Excel; "),
        (gzip.compress(b"path,label\n", mtime=0), "a gzip file; unpack it"),
        (b'{"images": [{"id": 1}]}', "JSON ({"),
        (b'[{"file_name": "1.jpg"}]', "JSON ([{"),
        (b"<?xml version='1.0'?><annotation/>", "XML ("),
        (b"\xff\xd8\xff\xe0" + bytes(300), "a picture (JPEG); give"),
        (b"PAR1\x15\0" + bytes(300), "a Parquet table; write"),
    ],
)
def test_a_file_that_is_no_csv_is_named(photos, tmp_path, data, says):
    (tmp_path / "l.csv").write_bytes(data)
    assert says in stopped(photos, f"csv:{tmp_path}/l.csv")


def test_a_csv_without_column_names_is_refused(photos, tmp_path):
    """With the first line as its names, its image would be lost."""
    for written in (PICTURES, [path[7:-4] for path in PICTURES]):
        rule = csv_of(tmp_path, f"{written[0]},black", *written[1:])
        line = stopped(photos, rule)
        assert f"its first line is of an image, {written[0]}; write the line path,label" in line
    rule = csv_of(tmp_path, f"{PICTURES[0]},black", *PICTURES[1:])
    assert "its first line is of an image" in stopped(photos, f"{rule}#{PICTURES[0]},black")
    (tmp_path / "l.csv").write_text("images/0000.jpg 0\nimages/0001.jpg 1\n")
    assert "parted by blanks: write commas" in stopped(photos, f"csv:{tmp_path}/l.csv")


def rows_of(head: str, cell) -> str:
    return "\n".join([head, *(cell(f"{at:04}", at % 2) for at in range(8))])


@pytest.mark.parametrize(
    "text",
    [
        rows_of("image,MEL,NV", lambda name, at: f"{name},{at}.0,{1 - at}.0"),
        rows_of("filename, black, white", lambda name, at: f"{name}.jpg, {at}, {1 - at}"),
    ],
)
def test_columns_of_0_and_1_are_classes(photos, tmp_path, text):
    (tmp_path / "l.csv").write_text(text)
    table = build_table(photos, f"csv:{tmp_path}/l.csv")
    assert table.label.nunique() == 2
    assert not table.attrs["multi_label"], "each line has one 1"
    (tmp_path / "l.csv").write_text(text.replace(text.split(",")[0], "name", 1))
    line = stopped(photos, f"csv:{tmp_path}/l.csv")
    assert line.endswith(f"): name the column of paths, as --labels csv:{tmp_path}/l.csv#PATH,*")
    named = build_table(photos, f"csv:{tmp_path}/l.csv#name,*")
    assert named.equals(table)


@pytest.mark.parametrize(
    "text, columns",
    [
        pytest.param(
            rows_of(
                "annotation_id,annotator,choice,id,image",
                lambda name, at: (
                    f"9{name},1,{'ab'[at]},{name[3]}9,/data/upload/1/0a1b2c3d-{name}.jpg"
                ),
            ),
            "image,choice",
            id="Label Studio",
        ),
        pytest.param(
            rows_of(
                "id,image,choice", lambda n, at: f"9{n},/data/local-files/?d=images/{n}.jpg,{at}"
            ),
            "image,choice",
            id="Label Studio's local files",
        ),
        pytest.param(
            rows_of("lesion_id,image_id,dx,sex", lambda name, at: f"H{name},{name},{at},male"),
            "image_id,dx",
            id="HAM10000",
        ),
        pytest.param(
            rows_of("url,kind", lambda n, at: f"https://a.b/set/images%2F{n}.jpg?w=8,{at}"),
            "url,kind",
            id="URLs",
        ),
    ],
)
def test_the_right_columns_are_suggested_and_then_work(photos, tmp_path, text, columns):
    (tmp_path / "l.csv").write_text(text)
    rule = f"csv:{tmp_path}/l.csv"
    assert stopped(photos, rule).endswith(f"#{columns}")
    assert build_table(photos, f"{rule}#{columns}").path.tolist() == PICTURES


@pytest.mark.parametrize("cells", [("0.91,0.09", "0.2,0.8"), ("x,", ",x")])
def test_a_column_of_each_class_is_not_suggested_as_labels(photos, tmp_path, cells):
    lines = [f"{path},{cells[at % 2]}\n" for at, path in enumerate(PICTURES)]
    (tmp_path / "l.csv").write_text("image,black,white\n" + "".join(lines))
    assert stopped(photos, f"csv:{tmp_path}/l.csv").endswith("#PATH,LABEL")
