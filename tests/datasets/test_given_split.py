"""Splits given by folders or by a column, with any label rule."""

from pathlib import Path

import pytest
from labelled_folders import make, stopped

from visionflows.datasets.file_table import build_table
from visionflows.datasets.table_notes import table_notes

BY_NAME = [r"regex:^(cat|Dog)", "uppercase"]


def kinds(folder: str, count: int = 3) -> list[str]:
    return [f"{folder}/{kind}.{at}.png" for kind in ("cat", "Dog") for at in range(count)]


def csv_of(folder: Path, head: str, *lines: str) -> str:
    (folder / "labels.csv").write_text("\n".join([head, *lines]) + "\n")
    return f"csv:{folder}/labels.csv"


def sides(table) -> dict[str, bool]:
    usable = table[table.status == "ok"]
    return dict(zip(usable.path, usable.is_valid, strict=True))


def left_out(table) -> dict[str, str]:
    rest = table[table.status == "unlabelled"]
    return dict(zip(rest.path, rest.error, strict=True))


def labels_of_tests(table) -> dict[str, str]:
    """The labels of the test images."""
    tests = table[table.status == "test"]
    assert set(tests.path) == set(table.path[table.is_test])
    assert not tests.is_valid.any()
    return dict(zip(tests.path, tests.label, strict=True))


# Folders


@pytest.mark.parametrize("above", ["", "set/"])
@pytest.mark.parametrize("rule", BY_NAME)
def test_a_name_rule_uses_the_split_of_the_folders(tmp_path, rule, above):
    parts = {part: kinds(f"{above}{part}") for part in ("train", "val", "test")}
    make(tmp_path, *(path for paths in parts.values() for path in paths), f"{above}Cover.png")
    table = build_table(tmp_path, rule)
    assert sides(table) == {path: path in parts["val"] for path in parts["train"] + parts["val"]}
    assert set(labels_of_tests(table)) == set(parts["test"])
    assert set(labels_of_tests(table).values()) == set(table.label[table.status == "ok"])
    assert set(left_out(table)) == {f"{above}Cover.png"}
    assert (
        f"the split is that of the folders: {above}train to train on, {above}val to validate on"
        in table_notes(table)
    )


def test_a_csv_without_a_split_uses_that_of_the_folders(tmp_path):
    make(tmp_path, *kinds("train"), *kinds("val"), *kinds("test"), *kinds("more"))
    named = [*kinds("train"), *kinds("val"), *kinds("test"), *kinds("more", 1)]
    lines = (f"{path},{path.split('/')[1][:3]}" for path in named)
    table = build_table(tmp_path, csv_of(tmp_path, "path,label", *lines))
    assert sides(table) == {
        path: path in kinds("val") for path in named if path not in kinds("test")
    }
    assert labels_of_tests(table) == {path: path[5:8] for path in kinds("test")}
    assert any("the split is that of the folders" in line for line in table_notes(table))


@pytest.mark.parametrize("rule", BY_NAME)
def test_with_only_a_test_folder_a_name_rule_splits_the_rest_at_random(tmp_path, rule):
    make(tmp_path, *kinds("train", 10), *kinds("test1"))
    table = build_table(tmp_path, rule)
    assert sum(sides(table).values()) == 4
    assert set(labels_of_tests(table)) == set(kinds("test1"))


def test_if_only_one_part_has_labels_it_is_split_at_random(tmp_path):
    make(tmp_path, *kinds("train", 10), *(f"val/{at}.png" for at in range(3)))
    table = build_table(tmp_path, r"regex:^(cat|Dog)")
    assert sum(sides(table).values()) == 4
    lines = [f"{path},{path[5:8]}" for path in kinds("test", 5)]
    make(tmp_path, *kinds("test", 5))
    table = build_table(tmp_path, csv_of(tmp_path, "path,label", *lines))
    assert sum(sides(table).values()) == 2
    assert left_out(table) == {}


def test_classes_in_the_names_of_other_folders_are_all_used(tmp_path):
    make(tmp_path, *kinds("2025"), *kinds("2026"), *kinds("train"))
    table = build_table(tmp_path, r"regex:^(cat|Dog)")
    assert set(table.status) == {"ok"}


# A column


@pytest.mark.parametrize(
    "head", ["split", "Set", "data set", "data_set", "dataset", "subset", "partition"]
)
@pytest.mark.parametrize("words", [("train", "valid", "test"), ("Training", "VAL", "Test ")])
def test_a_split_column_is_used(tmp_path, head, words):
    paths = kinds("images", 6)
    make(tmp_path, *paths)
    lines = [f"{path},{path[7:10]},{words[at % 3]}" for at, path in enumerate(paths)]
    lines.append(f"nowhere.png,cat,{words[2]}")  # a test's pictures may be elsewhere
    table = build_table(tmp_path, csv_of(tmp_path, f"path,label,{head}", *lines))
    assert sides(table) == {path: at % 3 == 1 for at, path in enumerate(paths) if at % 3 < 2}
    assert labels_of_tests(table) == {path: path[7:10] for path in paths[2::3]}
    assert set(table.error[table.is_test]) == {f"a test image by the column {head.lower()}"}
    assert table.attrs["split_given_by"] == "csv"
    assert (
        f"the split is that of the column {head.lower()}: "
        "4 to train on, 4 to validate on, 5 test images" in table_notes(table)
    )


def test_a_column_of_train_and_test_splits_the_training_rows_at_random(tmp_path):
    make(tmp_path, *kinds("images", 10))
    lines = [
        f"{path},{path[7:10]},{'test' if at % 5 == 0 else 'train'}"
        for at, path in enumerate(kinds("images", 10))
    ]
    table = build_table(tmp_path, csv_of(tmp_path, "path,label,split", *lines))
    assert len(labels_of_tests(table)) == 4
    assert table.attrs["split_given_by"] == ""
    assert 0 < sum(sides(table).values()) < 16


def test_test_images_without_a_label_in_the_table_are_not_opened(tmp_path):
    paths = kinds("images", 6)
    make(tmp_path, *paths)
    (tmp_path / paths[2]).write_bytes(b"\x89PNG but no more")
    words = ("train", "valid", "test")
    lines = [
        f"{path},{'' if at % 3 == 2 else path[7:10]},{words[at % 3]}"
        for at, path in enumerate(paths)
    ]
    table = build_table(tmp_path, csv_of(tmp_path, "path,label,split", *lines))
    assert left_out(table) == dict.fromkeys(paths[2::3], "a test image by the column split")
    assert set(table.path[table.is_test]) == set(paths[2::3])


@pytest.mark.parametrize("word", ["perhaps", "", "tset"])
def test_a_row_without_a_valid_side_is_noted(tmp_path, word):
    make(tmp_path, *kinds("images"))
    lines = [f"{path},{path[7:10]},train" for path in kinds("images")]
    lines[2], lines[3] = lines[2].replace("train", "val"), lines[3].replace("train", word)
    assert f"line 5: split of images/Dog.0.png is {word!r}; write train, valid or test" in stopped(
        tmp_path, csv_of(tmp_path, "path,label,split", *lines)
    )


@pytest.mark.parametrize(
    "words, note",
    [
        (("7", "8"), ""),
        (("train", "train"), ""),
        (("test", "test"), "the column set is not used as a split: its values are test"),
        (("train", "boat"), "the column set is not used as a split: its values are train, boat"),
    ],
)
def test_a_column_that_may_be_a_split_is_noted_and_not_used(tmp_path, words, note):
    make(tmp_path, *kinds("images"))
    lines = [f"{path},{path[7:10]},{words[at % 2]}" for at, path in enumerate(kinds("images"))]
    table = build_table(tmp_path, csv_of(tmp_path, "path,label,set", *lines))
    assert set(table.status) == {"ok"}
    assert sum(sides(table).values()) == 2
    assert table_notes(table) == [note] * bool(note)


def test_is_valid_takes_precedence_over_other_columns_and_folders(tmp_path):
    make(tmp_path, *kinds("train"), *kinds("test"))
    lines = [
        f"{path},{path.split('/')[1][:3]},{path.startswith('test')},train"
        for path in kinds("train") + kinds("test")
    ]
    table = build_table(tmp_path, csv_of(tmp_path, "path,label,is_valid,split", *lines))
    assert sides(table) == {path: path in kinds("test") for path in kinds("train") + kinds("test")}
    assert table_notes(table) == []


def test_the_label_column_is_never_the_split(tmp_path):
    make(tmp_path, *kinds("images"))
    lines = [f"{path},{('train', 'test')[at % 2]}" for at, path in enumerate(kinds("images"))]
    table = build_table(tmp_path, csv_of(tmp_path, "path,set", *lines) + "#path,set")
    assert set(table.label) == {"train", "test"}


@pytest.mark.parametrize(
    "one, other",
    [
        *(("validation", "entrainement"), ("test", "material"), ("unlabeled", "labeled")),
        ("val", "test"),
    ],
)
def test_folders_of_the_same_classes_beside_a_part_of_a_split_are_asked_for(tmp_path, one, other):
    make(tmp_path, *(f"{part}/{path}" for part in (one, other) for path in ("a/1.png", "b/1.png")))
    beside = f"--labels folder: {other} beside {one} may be", f"{one} beside {other} may be"
    assert any(line in stopped(tmp_path) for line in beside)


def test_beside_trainval_test_holds_test_images(tmp_path):
    make(tmp_path, *kinds("trainval/a"), *kinds("trainval/b"), *kinds("test/a"), *kinds("test/b"))
    table = build_table(tmp_path, "folder")
    assert {*table.path[table.is_test]} == {*kinds("test/a"), *kinds("test/b")}
