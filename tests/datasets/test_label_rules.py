"""Labels by every rule: from names, and from a CSV."""

import logging
import os
import shutil
from pathlib import Path

import pytest
from labelled_folders import labels_of, make, pets, stopped

from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.datasets.table_notes import table_notes
from visionflows.errors import SettingsError, StorageError

# Label rules


@pytest.mark.parametrize(
    "text, says",
    [
        ("folders", "no such rule; give folder, uppercase, regex:"),
        ("", "no such rule"),
        ("folder:x", "no such rule"),
        ("csv:", "no such rule"),
        ("regex:(", "not a regular expression: missing"),
        ("regex:", "has 0 groups"),
        (r"regex:^\w+_", "has 0 groups; put one"),
        (r"regex:(\w+)_(\d+)", "has 2 groups"),
        ("uppercase:", "name the two classes"),
        ("uppercase:dog", "name the two classes"),
        ("uppercase:dog,", "name the two classes"),
        ("uppercase:dog,dog", "name the two classes"),
        ("uppercase:dog,cat,owl", "name the two classes"),
    ],
)
def test_an_invalid_rule_is_refused_before_any_work(tmp_path, text, says):
    with pytest.raises(SettingsError, match=says.replace("(", r"\(")):
        build_table(tmp_path / "nowhere", text)


@pytest.mark.parametrize(
    "text",
    [
        *("folder", "uppercase", "uppercase:dog,cat", "csv:s3://b/l.csv", "regex:^([a-z]+):"),
        *("coco:s3://b/l.json", "voc:Annotations", "cvat:l.xml", "keywords", "keywords:A|B"),
    ],
)
def test_a_rule_is_printed_as_it_was_written(text):
    assert str(parse_label_rule(text)) == text


def test_folder_is_the_name_of_the_parent_folder(tmp_path):
    make(tmp_path, "train time/cat/1.png", "other/cat/2.png", "dog/1.png", "dog/2.png")
    make(tmp_path, "dog/x.jpg/1.png", "dog/x.jpg/2.png")
    assert labels_of(build_table(tmp_path, "folder")) == {
        "dog/1.png": "dog",
        "dog/2.png": "dog",
        "dog/x.jpg/1.png": "x.jpg",
        "dog/x.jpg/2.png": "x.jpg",
        "other/cat/2.png": "cat",
        "train time/cat/1.png": "cat",
    }


def test_uppercase_is_the_tutorials_rule(tmp_path):
    make(tmp_path, "images/Tom_1.png", "images/Élan.png", "images/rex_1.png", "UP/7_Up.png")
    table = build_table(tmp_path, "uppercase", valid_pct=0.5)
    assert labels_of(table) == {
        "UP/7_Up.png": "False",
        "images/Tom_1.png": "True",
        "images/rex_1.png": "False",
        "images/Élan.png": "True",
    }


def test_the_classes_of_uppercase_can_be_named(tmp_path):
    make(tmp_path, "Tom_1.png", "Kit_2.png", "rex_1.png", "ace_2.png")
    assert labels_of(build_table(tmp_path, "uppercase: dog, cat")) == {
        "Kit_2.png": "cat",
        "Tom_1.png": "cat",
        "ace_2.png": "dog",
        "rex_1.png": "dog",
    }


def test_regex_searches_the_file_name_only(tmp_path):
    make(tmp_path, "a_1/great_dane_12.png", "a_1/great_dane_3.png", "b_2/pug_1.png", "pug_22.png")
    table = build_table(tmp_path, r"regex:(.+)_\d+.png$")
    assert list(table.label) == ["great_dane", "great_dane", "pug", "pug"]


def test_files_that_a_regex_does_not_match_are_left_out_and_noted(tmp_path):
    make(tmp_path, "cat_1.png", "cat_2.png", "dog_1.png", "dog_2.png", "README.png", "_9.png")
    (tmp_path / "broken.png").write_bytes(b"never opened, as it has no label")
    table = build_table(tmp_path, r"regex:^([a-z]*)_\d")
    left_out = table[table.status == "unlabelled"]
    assert list(left_out.path) == ["README.png", "_9.png", "broken.png"]
    assert set(left_out.label) == {""}
    assert not left_out.is_valid.any()
    (line,) = table_notes(table)
    assert line.startswith(
        "left out as unlabelled: 3, README.png (the label rule gives it no label)"
    )


def test_files_beside_the_class_folders_are_unlabelled(tmp_path):
    make(pets(tmp_path), "stray.png")
    table = build_table(tmp_path, "folder")
    assert list(table.path[table.status == "unlabelled"]) == ["stray.png"]


# Labels from a CSV


def write_csv(folder: Path, *lines: str, name: str = "labels.csv") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    return f"csv:{folder / name}"


CSV_LINES = ["path,label"] + [
    f"{kind}/{kind[0]}{at}.png,{kind.upper()}" for kind in ("cat", "dog") for at in range(2)
]


def test_only_the_rows_and_labels_of_a_csv_are_used(where, tmp_path):
    write_csv(tmp_path / "elsewhere", *CSV_LINES)
    rule = f"csv:{where(tmp_path / 'elsewhere/labels.csv')}"
    table = build_table(pets(tmp_path / "data"), rule)
    assert labels_of(table) == {
        "cat/c0.png": "CAT",
        "cat/c1.png": "CAT",
        "dog/d0.png": "DOG",
        "dog/d1.png": "DOG",
    }
    assert table.groupby("label").is_valid.sum().tolist() == [1, 1]


def test_a_csv_inside_the_dataset_is_found_and_its_paths_are_relative_to_it(tmp_path):
    pets(tmp_path / "images")
    write_csv(tmp_path / "images", *CSV_LINES, "./cat/c2.png,NA", "images/dog/d2.png,NA")
    table = build_table(tmp_path, "csv:images/labels.csv")
    assert labels_of(table) == {
        "images/cat/c0.png": "CAT",
        "images/cat/c1.png": "CAT",
        "images/cat/c2.png": "NA",
        "images/dog/d0.png": "DOG",
        "images/dog/d1.png": "DOG",
        "images/dog/d2.png": "NA",
    }


def test_a_csv_may_contain_any_file_name(tmp_path):
    make(
        tmp_path, "a,b.png", "two\nlines.png", "=1.png", 'say "hi".png', os.fsdecode(b"caf\xe9.png")
    )
    rule = write_csv(
        tmp_path,
        "label,path,more",
        'x,"a,b.png",',
        'x,"two\nlines.png"',
        "y,=1.png,1,,",
        'y,"say ""hi"".png"',
        "y,caf\\xe9.png",
    )
    table = build_table(tmp_path, rule)
    assert list(table.path) == sorted(table.path)
    assert labels_of(table)["caf\\xe9.png"] == "y"
    assert labels_of(table)["two\nlines.png"] == "x"
    assert set(table.status) == {"ok"}


def test_is_valid_of_a_csv_is_the_split(tmp_path):
    lines = ["path,label,is_valid"]
    lines += [f"cat/c{at}.png,cat,{value}" for at, value in enumerate(["True", "1", "yes", "0"])]
    lines += [f"dog/d{at}.png,dog,{value}" for at, value in enumerate(["FALSE", " no ", "false"])]
    table = build_table(pets(tmp_path), write_csv(tmp_path, *lines))
    assert list(table.path[table.is_valid]) == ["cat/c0.png", "cat/c1.png", "cat/c2.png"]
    assert table_notes(table) == ["no image to validate on, so never evaluated: dog"]


def test_duplicates_of_validation_images_are_moved_to_validation(tmp_path, caplog):
    pets(tmp_path)
    shutil.copy(tmp_path / "cat/c0.png", tmp_path / "cat/copy.png")
    rule = write_csv(
        tmp_path,
        *("path,label,is_valid", "cat/c0.png,cat,True", "cat/copy.png,cat,False"),
        *("cat/c1.png,cat,False", "dog/d0.png,dog,False"),
    )
    with caplog.at_level(logging.WARNING, "visionflows"):
        table = build_table(tmp_path, rule)
    assert list(table.path[table.is_valid]) == ["cat/c0.png", "cat/copy.png"]
    assert "moved to validation, as copies of images there: 1, cat/copy.png" in caplog.text


@pytest.mark.parametrize(
    "lines, says",
    [
        ([], "lacks the column path and label; its first line must name path and label"),
        (["path,class", "cat/c0.png,cat"], "lacks the column label; "),
        (["path;label", "cat/c0.png;cat"], "and has path;label; its columns are parted by"),
        (["path,label"], "has no line with a label"),
        (["path,label", "cat/c0.png,"], "has no line with a label"),
        (["path,label", "cat/c0.png,a", "./cat/c0.png,b"], "names cat/c0.png twice"),
        (["path,label,is_valid", "cat/c0.png,a,maybe"], "is_valid of cat/c0.png is 'maybe'"),
        (
            ["path,label,is_valid", "cat/c0.png,a,1", "dog/d0.png,b,1"],
            "no usable image to train on",
        ),
        (
            ["path,label,is_valid", "cat/c0.png,a,0", "dog/d0.png,b,0"],
            "no usable image to validate on",
        ),
        (
            ["path,label", "../secret.png,a", "/etc/x.png,a", "labels.csv,b"],
            "3 of its paths name no",
        ),
    ],
)
def test_an_invalid_csv_is_an_error(tmp_path, lines, says):
    line = stopped(pets(tmp_path), write_csv(tmp_path, *lines))
    assert str(tmp_path / "labels.csv") in line
    assert says in line


def test_a_csv_with_missing_files_is_an_error_that_names_three(tmp_path):
    lines = [f"gone{at}.png,cat" for at in range(5)]
    line = stopped(pets(tmp_path), write_csv(tmp_path, *CSV_LINES, *lines))
    assert ": gone0.png, gone1.png, gone2.png, …; write them from that folder on" in line
    assert "5 of its paths name no image in" in line


def test_a_binary_or_missing_csv_is_an_error(tmp_path):
    pets(tmp_path)
    (tmp_path / "latin.csv").write_bytes("path,label\ncafé.png,a".encode("latin-1"))
    assert "not UTF-8 text" in stopped(tmp_path, f"csv:{tmp_path}/latin.csv")
    for name in ("nowhere.csv", "nowhere/labels.csv"):
        with pytest.raises(StorageError, match=f"{name}: no such file"):
            build_table(tmp_path, f"csv:{name}")
    with pytest.raises(StorageError, match="Is a directory"):
        build_table(tmp_path, f"csv:{tmp_path}/cat")
