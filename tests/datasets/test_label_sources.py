"""Labels from COCO, VOC, CVAT, CSV of several kinds, and keywords: the same file table."""

import json
import shutil

import pytest
from label_formats import (
    LABELS,
    WRITERS,
    write_coco,
    write_cvat,
    write_keywords,
    write_one_hot,
    write_separated,
    write_voc,
)
from label_tables import stopped

from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.datasets.table_notes import table_notes
from visionflows.errors import SettingsError, StorageError

pytest_plugins = ["label_formats"]

CONTENT = ["sha256", "signature"]  # of copies with keywords


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    rule = parse_label_rule(write_separated(LABELS, tmp_path_factory.mktemp("csv")), "|")
    table = build_table(photos, rule)
    assert table.label.tolist() == [";".join(sorted(names)) for names in LABELS.values()]
    assert table.attrs["multi_label"]
    return table


@pytest.mark.parametrize("kind", sorted({*WRITERS} - {"separator"}))
def test_each_kind_of_file_gives_the_same_table(photos, expected, tmp_path, kind):
    table = build_table(photos, WRITERS[kind](LABELS, tmp_path))
    assert table.equals(expected)
    assert table.attrs["multi_label"]


def test_keywords_in_copies_give_the_same_table(photos, expected, tmp_path):
    write_keywords(LABELS, photos, tmp_path)
    table = build_table(tmp_path, "keywords")
    assert table.attrs["multi_label"]
    split = ["is_valid", *CONTENT]  # it is drawn by the bytes
    assert table.drop(columns=split).equals(expected.drop(columns=split))
    assert table.signature.equals(expected.signature), "the pixels are the same"


@pytest.mark.parametrize("kind", ["coco", "cvat", "voc"])
def test_an_image_without_objects_has_no_label_and_is_used(photos, tmp_path, kind):
    table = build_table(photos, WRITERS[kind]({**LABELS, "images/001.jpg": ()}, tmp_path))
    assert (table.label[1], table.status[1], table.error[1]) == ("", "ok", "")
    assert table.status.eq("ok").all()


def test_a_line_of_zeros_and_an_empty_list_have_no_label(photos, tmp_path):
    (tmp_path / "l.csv").write_text(
        "path,cat,dog\n000.jpg,1,0\n001.jpg,0,0\n002.jpg,0,1\n003.jpg,1,1\n"
    )
    table = build_table(photos, f"csv:{tmp_path}/l.csv")
    assert table.label.tolist() == ["cat", "", "dog", "cat;dog"]
    assert table.attrs["multi_label"]
    (tmp_path / "l.csv").write_text(
        'path,label\n000.jpg,"[\'cat\']"\n001.jpg,[]\n002.jpg,"[\'dog\', ""it\'s""]"\n003.jpg,'
    )
    table = build_table(photos, f"csv:{tmp_path}/l.csv")
    assert table.label.tolist() == ["cat", "", "dog;it's", ""]
    assert table.status.tolist() == ["ok", "ok", "ok", "unlabelled"]


@pytest.mark.parametrize(
    "cell, labels",
    [
        ("['a', 'b']", "a;b"),
        ('["a", "b\\u00e9"]', "a;bé"),
        ("[a, b c]", "a;b c"),
        ("['it\\'s', \"b\"]", "b;it's"),
        ("[1, 2]", "1;2"),
        ("[ 'a' , ]", "a"),
    ],
)
def test_lists_are_those_of_python_and_json(photos, tmp_path, cell, labels):
    quoted = cell.replace('"', '""')
    (tmp_path / "l.csv").write_text(
        f'path,label\n000.jpg,"{quoted}"\n001.jpg,[x]\n002.jpg,[y]\n003.jpg,[y]'
    )
    assert build_table(photos, f"csv:{tmp_path}/l.csv").label[0] == labels


@pytest.mark.parametrize(
    "cell", ["['a' 'b']", "['a', ['b']]", "['a]", '[{"a": 1}]', f"[{'[' * 9000}]"]
)
def test_other_lists_are_refused(photos, tmp_path, cell):
    quoted = cell.replace('"', '""')
    (tmp_path / "l.csv").write_text(f'path,label\n000.jpg,"{quoted}"\n001.jpg,[x]')
    assert "is no list of labels" in stopped(photos, f"csv:{tmp_path}/l.csv")


def test_columns_of_classes_hold_0_and_1(photos, tmp_path):
    rule = write_one_hot(LABELS, tmp_path)
    lines = (tmp_path / "ones.csv").read_text().splitlines()
    more = [f"images/{at:03}.jpg,640,0,0,0,0" for at in range(20, 60)]
    (tmp_path / "ones.csv").write_text("\n".join([*lines, *more, "images/000.jpg,640,0,-1,0,0"]))
    line = stopped(photos, rule)
    assert "line 62: the column cat has '-1', where others have 0 or 1" in line
    (tmp_path / "ones.csv").write_text("path,cat,dog,owl\n000.jpg,1,0,0\n001.jpg,0,1,0\n")
    assert "no line has a 1 in the column owl" in stopped(photos, rule)
    (tmp_path / "ones.csv").write_text(
        "path,cat,dog\n" + "".join(f"00{at}.jpg,{at % 2 == 0},{at % 2 == 1}\n" for at in range(4))
    )
    assert build_table(photos, rule).label.tolist() == ["cat", "dog"] * 2
    several = build_table(photos, parse_label_rule(rule, multi_label=True))
    assert several.attrs["multi_label"]
    note = "classes by 2 columns of 0 and 1, and --label-sep parts nothing: cat, dog"
    assert note in table_notes(build_table(photos, parse_label_rule(rule, ";")))
    (tmp_path / "ones.csv").write_text("path,cat,cat\n000.jpg,1,0\n001.jpg,0,1\n")
    assert "has two columns cat" in stopped(photos, rule)


def test_a_line_for_each_label_needs_multi_label(photos, tmp_path):
    lines = [f"{path},{name}" for path, names in LABELS.items() for name in names]
    (tmp_path / "l.csv").write_text("\n".join(["image,class", *lines]))
    rule = f"csv:{tmp_path}/l.csv"
    assert "or use --multi-label if it has both labels" in stopped(photos, rule)
    table = build_table(photos, parse_label_rule(rule, multi_label=True))
    assert table.label.tolist() == [";".join(sorted(names)) for names in LABELS.values()]


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_images_that_are_not_there_are_an_error_or_skipped(photos, expected, tmp_path, kind):
    rule = WRITERS[kind]({**LABELS, "images/gone.jpg": ("cat",)}, tmp_path)
    separator = "|" if kind == "separator" else ""
    line = stopped(photos, parse_label_rule(rule, separator))
    assert "1 of its paths name no image in" in line
    assert "gone" in line
    assert line.endswith("or use --missing skip")
    table = build_table(photos, parse_label_rule(rule, separator, missing="skip"))
    assert table.equals(expected)
    assert any("1 of its paths name no image, so skipped: " in note for note in table_notes(table))
    assert table.attrs["label_options"]["missing"] == "skip"


def test_if_none_is_there_nothing_is_skipped(photos, tmp_path):
    rule = write_coco({"a.jpg": ("cat",), "b.jpg": ("dog",)}, tmp_path)
    assert "2 of its paths name no image" in stopped(photos, parse_label_rule(rule, missing="skip"))


def test_what_options_need_is_checked():
    for text, options, says in (
        ("folder", {"missing": "skip"}, "--missing skip: needs --labels of csv, coco, voc, cvat"),
        ("coco:l.json", {"separator": ";"}, "--label-sep ;: needs --labels of csv, folder, regex"),
        ("keywords:", {}, "no such rule"),
        ("voc:", {}, "no such rule"),
    ):
        with pytest.raises(SettingsError, match=says):
            parse_label_rule(text, **options)


def test_one_label_only_is_possible_with_each(photos, tmp_path):
    table = build_table(photos, parse_label_rule(write_cvat(LABELS, tmp_path), multi_label=False))
    assert table.label.tolist() == [
        names[0] if len(names) == 1 else "" for names in LABELS.values()
    ]
    assert table.error[0] == "has 2 labels, and --no-multi-label takes one: cat, sofa"


def test_voc_finds_photos_by_their_name_in_the_file_else_by_that_of_the_file(photos, tmp_path):
    rule = write_voc(LABELS, tmp_path)
    first, second = sorted((tmp_path / "voc").iterdir())[:2]
    first.write_text(first.read_text().replace("000.jpg", "of_another_machine.png"))
    second.write_text(second.read_text().replace("<filename>001.jpg</filename>", ""))
    assert build_table(photos, rule).path.tolist() == [*LABELS]
    assert build_table(photos, rule).label[:2].tolist() == ["cat;sofa", "dog"]


def test_files_may_be_in_the_dataset(photos, expected, tmp_path):
    copy = shutil.copytree(photos, tmp_path / "data")
    for write in (write_voc, write_coco, write_cvat):
        kind, _, location = write(LABELS, copy).partition(":")
        rule = f"{kind}:{location.removeprefix(f'{copy}/')}"
        assert build_table(copy, rule).equals(expected)
    with pytest.raises(StorageError, match="no such folder; --labels voc: takes a folder of XML"):
        build_table(copy, "voc:nowhere")


def test_files_may_be_in_a_bucket(photos, expected, tmp_path, s3, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    for write in (write_voc, write_coco, write_cvat):
        kind, _, location = write(LABELS, tmp_path / "in").partition(":")
        rule = f"{kind}:{s3.uri(tmp_path / 'in' / location.rpartition('/')[2])}"
        assert build_table(photos, rule).equals(expected)


def test_classes_that_a_file_declares_without_an_image_are_noted(photos, tmp_path):
    rule = write_coco(LABELS, tmp_path)
    content = json.loads((tmp_path / "coco.json").read_text())
    content["categories"].append({"id": 99, "name": "owl"})
    (tmp_path / "coco.json").write_text(json.dumps(content))
    table = build_table(photos, rule)
    assert "classes without an image, so not learned: owl" in table_notes(table)
