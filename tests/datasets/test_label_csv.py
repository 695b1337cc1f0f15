"""Label CSVs: columns, paths, and the line numbers of errors."""

import re
import unicodedata
from pathlib import Path

import pytest
from label_tables import PICTURES, csv_of, make, stopped

from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rules import parse_label_rule


@pytest.fixture
def photos(tmp_path) -> Path:
    return make(tmp_path / "photos", *PICTURES)


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
            "lacks the column label; its first line must name path and label, and has ",
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
    assert "lacks the column race; its first line must name id and race, and has id, breed" in line


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
    assert line.endswith(
        "write them from that folder on, take those lines out, or use --missing skip"
    )


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
