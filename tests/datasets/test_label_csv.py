"""Label CSVs: columns, paths, and the line numbers of errors."""

import gzip
import hashlib
import re
import time
import unicodedata
from pathlib import Path

import pytest
from conftest import encoded, picture

from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.datasets.path_matching import PathMatcher
from visionflows.errors import TableError

PICTURES = [f"images/{at:04}.jpg" for at in range(8)]


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest())
        (folder / name).write_bytes(encoded(picture(seed, (12, 9)), "PNG"))
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    return make(tmp_path / "photos", *PICTURES)


def csv_of(folder: Path, head: str, *cells: str) -> str:
    """The label rule of a CSV of these paths, alternately black and white."""
    lines = [f"{cell},{('black', 'white')[at % 2]}" for at, cell in enumerate(cells)]
    (folder / "labels.csv").write_text("\n".join([head, *lines]) + "\n")
    return f"csv:{folder}/labels.csv"


def stopped(folder: Path, rule: str) -> str:
    with pytest.raises(TableError) as caught:
        build_table(folder, rule)
    assert str(caught.value).isprintable(), "an error is one line"
    return str(caught.value)


def as_meant(photos: Path, rule: str) -> bool:
    table = build_table(photos, rule)
    assert table.path.tolist() == PICTURES
    return table.label.tolist() == ["black", "white"] * 4


# Columns


@pytest.mark.parametrize(
    "head",
    [
        *("path,label", "Path,Label", " path , label ", "id,breed", "Id,Category", "image,class"),
        *("file_name,label", "filename,target", "image_id,label", "image_name,species"),
    ],
)
def test_pairs_of_columns_are_known(photos, tmp_path, head):
    assert as_meant(photos, csv_of(tmp_path, head, *PICTURES))


def test_other_columns_are_ignored(photos, tmp_path):
    rule = csv_of(tmp_path, "image_id,label,variety,age", *PICTURES)
    assert as_meant(photos, rule)
    assert as_meant(photos, csv_of(tmp_path, "path,label,id,class", *PICTURES))


def test_columns_can_be_named(photos, tmp_path):
    rule = csv_of(tmp_path, "where,what,id,class", *PICTURES)
    assert as_meant(photos, f"{rule}#where,what")
    assert as_meant(photos, f"{rule}#Where,WHAT")
    assert str(parse_label_rule(f"{rule}#where,what")) == f"{rule}#where,what"


def test_a_hash_in_the_name_of_a_csv_is_part_of_it(photos, tmp_path):
    (tmp_path / "set #1, old").mkdir()
    rule = csv_of(tmp_path / "set #1, old", "a,b", *PICTURES)
    assert as_meant(photos, f"{rule}#a,b")
    assert str(parse_label_rule("csv:set#1.csv")) == "csv:set#1.csv"
    assert parse_label_rule("csv:set#1.csv").columns == ()


@pytest.mark.parametrize(
    "head, says",
    [
        ("id,file_name,label", "has the columns id, file_name; say which is meant, such as "),
        ("id,breed,category", "#id,breed"),
        ("path,label,label", "has the columns label, label"),
        (
            "path,class",
            "lacks the column label; its first line must name path and label, and says ",
        ),
        ("path,class", "/labels.csv#path,class"),
        ("name,kind", "lacks the column path and label"),
        ("id,colour", "lacks the column label; "),
        ("path;label", "parted by ';': save it with commas"),
        ("path\tlabel", r"parted by '\t': save it with commas"),
    ],
)
def test_ambiguous_columns_are_refused_with_a_hint(photos, tmp_path, head, says):
    assert says in stopped(photos, csv_of(tmp_path, head, *PICTURES))


def test_a_missing_named_column_is_refused(photos, tmp_path):
    line = stopped(photos, csv_of(tmp_path, "id,breed", *PICTURES) + "#id,race")
    assert "lacks the column race; its first line must name id and race, and says id, breed" in line


# Paths


def test_an_id_finds_an_image_with_any_extension(tmp_path):
    make(tmp_path / "photos", *(f"{at:04}.jpg_large" for at in range(4)), "0004", "0005")
    rule = csv_of(tmp_path, "id,label", *(f"{at:04}" for at in range(6)))
    assert list(build_table(tmp_path / "photos", rule).label) == ["black", "white"] * 3


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda path: path.removesuffix(".jpg"), id="no ending"),
        pytest.param(lambda path: path[len("images/") :], id="the name alone"),
        pytest.param(lambda path: path[len("images/") : -len(".jpg")], id="an id"),
        pytest.param(lambda path: path.replace("/", "\\"), id="backslashes"),
        pytest.param(lambda path: f".\\{path}".replace("/", "\\"), id="backslashes and a dot"),
        pytest.param(lambda path: path.upper(), id="capitals"),
        pytest.param(lambda path: f" {path} ", id="blanks"),
        pytest.param(lambda path: f"photos/{path}", id="from where the csv lies"),
        pytest.param(lambda path: f"pets/{path}", id="another folder above"),
        pytest.param(lambda path: f"/home/me/pets/{path}", id="of another machine"),
        pytest.param(
            lambda path: rf"C:\data\pets\{path}".replace("/", "\\"), id="of a Windows machine"
        ),
        pytest.param(lambda path: f"../pets/{path.removesuffix('.jpg')}", id="above, no ending"),
    ],
)
def test_common_ways_to_write_a_path_are_found(photos, tmp_path, written):
    assert as_meant(photos, csv_of(tmp_path, "path,label", *map(written, PICTURES)))


def test_absolute_paths_are_found(photos, tmp_path, monkeypatch):
    rule = csv_of(tmp_path, "path,label", *(f"{photos}/{path}" for path in PICTURES))
    monkeypatch.chdir(tmp_path)
    assert as_meant(Path("photos"), rule)


@pytest.mark.parametrize("written, on_disk", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("ending", [".jpg", ""])
def test_a_name_is_found_in_either_unicode_form(tmp_path, written, on_disk, ending):
    names = [unicodedata.normalize(on_disk, f"naïve/é{at}") for at in range(4)]
    make(tmp_path, *(f"{name}.jpg" for name in names))
    cells = [unicodedata.normalize(written, name) + ending for name in names]
    table = build_table(tmp_path, csv_of(tmp_path, "path,label", *cells))
    assert table.path.tolist() == sorted(f"{name}.jpg" for name in names)
    assert set(table.status) == {"ok"}


def test_labels_in_two_unicode_forms_are_one_class(photos, tmp_path):
    rule = csv_of(tmp_path, "path,label", *PICTURES)
    text = (tmp_path / "labels.csv").read_text()
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    text = text.replace("0.jpg,black", f"0.jpg,{forms[0]}").replace("black", forms[1])
    (tmp_path / "labels.csv").write_text(text)
    assert set(build_table(photos, rule).label) == {forms[0], "white"}


def test_the_closest_match_is_used(tmp_path):
    make(tmp_path, "a/1.jpg", "a/1.png", "a/2.jpg", "b/1.jpg", "A/2.jpg", "a/11.jpg", "1.jpg")
    (tmp_path / "a/labels.csv").write_text("id,label\n1.jpg,x\na/2,y\nb/1,y\n11,y\n1.png,x\n")
    table = build_table(tmp_path, f"csv:{tmp_path}/a/labels.csv")
    assert dict(zip(table.path, table.label, strict=True)) == {
        "1.jpg": "x",  # as it stands, before any other way to read it
        "a/1.png": "x",
        "a/11.jpg": "y",
        "a/2.jpg": "y",
        "b/1.jpg": "y",
    }


def test_an_ambiguous_path_is_refused(tmp_path):
    make(tmp_path, "cat/1.jpg", "dog/1.jpg", "dog/2.jpg", "dog/2.png")
    rule = csv_of(tmp_path, "id,label", "cat/1", "1", "2")
    assert stopped(tmp_path, rule).endswith(
        "labels.csv: 2 of its paths may mean several images (lines 3, 4): "
        "1 (cat/1.jpg, dog/1.jpg), 2 (dog/2.jpg, dog/2.png); write their folders and endings too"
    )


def test_a_folder_that_path_and_image_both_have_must_be_the_same(tmp_path):
    make(tmp_path / "a", "set/cat/1.jpg", "set/dog/2.jpg", "more/cat/1.jpg", "3.jpg", "dog/4.jpg")
    rule = csv_of(tmp_path, "path,label", "x/set/cat/1.jpg", "set/dog/2", "z/3.jpg", "dog/4.jpg")
    assert build_table(tmp_path / "a", rule).path.tolist() == [
        *("3.jpg", "dog/4.jpg", "set/cat/1.jpg", "set/dog/2.jpg"),
    ]
    others = "x/cat/1.jpg", "y/dog/2.jpg", "cow/2.jpg", "dogs/4.jpg"
    line = stopped(tmp_path / "a", csv_of(tmp_path, "path,label", *others))
    assert "4 of its paths name no image in" in line
    assert line.endswith("write them from that folder on, or take those lines out")


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
        (gzip.compress(b"path,label\n"), "a gzip file; unpack it"),
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
def test_a_column_for_each_class_is_named(photos, tmp_path, text):
    (tmp_path / "l.csv").write_text(text)
    line = stopped(photos, f"csv:{tmp_path}/l.csv")
    assert "it has a column for each class (" in line
    assert line.endswith("): make one column of labels of them")


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


@pytest.mark.parametrize(
    "cell", ["000", "001.jpg", "ages/0001.jpg", "0001.png", "../0001.jpg", "/0001"]
)
def test_similar_paths_are_no_match(photos, tmp_path, cell):
    line = stopped(photos, csv_of(tmp_path, "path,label", cell))
    assert f"1 of its paths name no image in {photos} (line 2): {cell}" in line


# Lines


def test_errors_name_lines_as_editors_count_them(photos, tmp_path):
    rule = csv_of(tmp_path, 'path,"label\nof it"', "0000", '"00\n01"', "", "0002", "0009")
    text = (tmp_path / "labels.csv").read_text().replace("\n,black", "\n\n , ")
    (tmp_path / "labels.csv").write_text(text)
    line = stopped(photos, rule + "#path,label\nof it")
    assert "2 of its paths name no image" in line
    assert "(lines 4, 9)" in line


def test_a_line_with_more_cells_than_columns_is_named(photos, tmp_path):
    """A comma in a label that nobody quoted."""
    lines = [f"{name},{'ab'[at % 2]}" for at, name in enumerate(PICTURES)]
    (tmp_path / "l.csv").write_text(
        "\n".join(["path,label", *lines[:4], "", f"{lines[4]}, spotted"])
    )
    line = stopped(photos, f"csv:{tmp_path}/l.csv")
    assert "line 7 has 3 cells and the first line 2; quote a cell that holds a comma" in line
    (tmp_path / "l.csv").write_text("\n".join(["path,label", *(f"{line},, " for line in lines)]))
    assert len(build_table(photos, f"csv:{tmp_path}/l.csv")) == 8


def test_an_image_named_twice_is_an_error_with_both_lines(photos, tmp_path):
    rule = csv_of(tmp_path, "path,label", "0001", "images/0002.jpg", "0002.jpg")
    line = stopped(photos, rule)
    assert "names images/0002.jpg twice, with different values or folders (lines 3 and 4)" in line


@pytest.mark.parametrize(
    "valid, train", [("valid", "train"), ("1.0", "0.0"), ("val", "training"), ("Dev", "TRAIN")]
)
def test_common_values_of_is_valid_are_read(photos, tmp_path, valid, train):
    lines = [f"{path},{'ab'[at % 2]},{(valid, train)[at // 4]}" for at, path in enumerate(PICTURES)]
    (tmp_path / "l.csv").write_text("\n".join(["path,label,is_valid", *lines]))
    table = build_table(photos, f"csv:{tmp_path}/l.csv")
    assert table.is_valid.tolist() == [True] * 4 + [False] * 4


def test_an_invalid_value_of_is_valid_is_an_error_with_its_line(photos, tmp_path):
    (tmp_path / "l.csv").write_text("path,label,is_valid\n0000,a,0\n0001,b,perhaps\n")
    line = stopped(photos, f"csv:{tmp_path}/l.csv")
    assert "line 3: is_valid of 0001 is 'perhaps'; write True or False" in line


def test_spaces_around_a_label_are_removed(photos, tmp_path):
    labels = ["cat", "cat ", " cat", "\u00a0cat", "dog", "dog ", " ", ""]
    lines = [f"{path},{label}" for path, label in zip(PICTURES, labels, strict=True)]
    (tmp_path / "l.csv").write_text("\n".join(["path,label", *lines]))
    table = build_table(photos, f"csv:{tmp_path}/l.csv")
    assert table.label.tolist() == ["cat"] * 4 + ["dog"] * 2 + [""] * 2
    assert set(table.error[table.label == ""]) == {"the label rule gives it no label"}


@pytest.mark.parametrize(
    "changes, lines_text",
    [
        pytest.param({3: '"0002.jpg,a'}, "lines 4 to 9", id="to the end"),
        pytest.param({3: '"0002.jpg,a', 6: '"0005.jpg",b'}, "lines 4 to 7", id="to the next"),
        pytest.param({8: '0007.jpg,"b'}, "line 9", id="in the last line"),
    ],
)
@pytest.mark.parametrize("above", [0, 1])
def test_an_unclosed_quote_is_an_error_with_its_lines(photos, tmp_path, changes, lines_text, above):
    lines = ["path,label", *(f"{at:04}.jpg,{'ab'[at % 2]}" for at in range(8))]
    for at, line in changes.items():
        lines[at] = line
    (tmp_path / "l.csv").write_text("\n".join(["sep=,"] * above + lines))
    if above:
        lines_text = re.sub(r"\d", lambda number: str(int(number[0]) + 1), lines_text)
    line = stopped(photos, f"csv:{tmp_path}/l.csv")
    assert "l.csv: not a CSV (" in line
    assert f", {lines_text}); close what is quoted there, or take the quote out" in line


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_sep_line_of_excel_sets_the_separator(photos, tmp_path, mark):
    lines = ["path,label", *(f"{path},{'ab'[at % 2]}" for at, path in enumerate(PICTURES))]
    text = "\r\n".join([f"sep={mark}", *(line.replace(",", mark) for line in lines)])
    (tmp_path / "l.csv").write_bytes(text.encode("utf-8-sig"))
    assert build_table(photos, f"csv:{tmp_path}/l.csv").label.tolist() == ["a", "b"] * 4
    (tmp_path / "l.csv").write_text(text.replace("0003", "0009"))
    assert "no image in" in (line := stopped(photos, f"csv:{tmp_path}/l.csv"))
    assert "(line 6)" in line
