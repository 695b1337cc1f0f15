"""Folder layouts: a split, test images, classes, and notes about unusual layouts."""

import hashlib
import json
import logging
import unicodedata
from pathlib import Path

import pytest
from conftest import encoded, picture

from visionflows.datasets.file_table import build_table
from visionflows.datasets.table_notes import table_notes
from visionflows.errors import TableError


def make(folder: Path, *names: str) -> None:
    """Write a different small image under each name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest())
        (folder / name).write_bytes(encoded(picture(seed, (12, 9)), "PNG"))


def each(*folders: str, count: int = 3) -> list[str]:
    return [
        f"{folder}/{folder.replace('/', '-')}{at}.png" for folder in folders for at in range(count)
    ]


def sides_of(table) -> dict[str, tuple[int, int]]:
    """The number of training and validation images of each class."""
    usable = table[table.status == "ok"]
    return {
        label: (int((~rows.is_valid).sum()), int(rows.is_valid.sum()))
        for label, rows in usable.groupby("label")
    }


@pytest.mark.parametrize("above", ["", "set/", "a/b/"])
@pytest.mark.parametrize(
    "train, valid",
    [
        ("train", "valid"),
        ("training", "validation"),
        ("Train", "VAL"),
        ("train", "dev"),
        ("train_images", "val_images"),
        ("trainset", "valset"),
        ("training_set", "validation_set"),
        ("pets-train", "pets-val"),
        ("train2017", "val2017"),
        ("train_2017", "val_2018"),
        ("train", "eval"),
        ("training", "hold_out"),
        ("train", "validate"),
        ("trainval", "holdout"),
    ],
)
def test_train_and_valid_folders_are_the_split(tmp_path, above, train, valid):
    make(tmp_path, *each(f"{above}{train}/cat", f"{above}{train}/dog", count=5))
    make(tmp_path, *each(f"{above}{valid}/cat", count=2), *each(f"{above}{valid}/dog", count=1))
    table = build_table(tmp_path, "folder", valid_pct=0.5)
    assert sides_of(table) == {"cat": (5, 2), "dog": (5, 1)}
    assert table.path[table.is_valid].str.contains(f"/?{valid}/", regex=True).all()
    assert [line for line in table_notes(table) if "near-duplicates" not in line] == [
        f"the split is that of the folders: {above}{train} to train on, "
        f"{above}{valid} to validate on",
        "--valid-pct 0.5: without effect, as the split is given",
    ]


@pytest.mark.parametrize("test", ["test", "Test", "testing", "test1", "test_images", "testset"])
def test_images_of_test_folders_are_test_images_and_those_in_no_class_folder_are_noted(
    tmp_path, test
):
    make(tmp_path, *each("set/train/cat", "set/train/dog"), *each("set/val/cat", "set/val/dog"))
    make(tmp_path, *each(f"set/{test}"), *each(f"set/{test}/cat"), f"set/{test}/owl/1.png")
    table = build_table(tmp_path, "folder")
    assert sides_of(table) == {"cat": (3, 3), "dog": (3, 3)}
    tests = table[table.is_test].set_index("status")
    assert tests.index.value_counts().to_dict() == {"test": 3, "unlabelled": 3, "unknown_class": 1}
    assert not tests.is_valid.any()
    assert {*tests.label["test"]} == {"cat"}
    assert tests.sha256["test"].all()
    # A folder of photos without labels, or of other classes, is not opened.
    assert not tests.sha256["unlabelled"].any()
    assert tests.sha256["unknown_class"] == ""
    assert tests.label["unknown_class"] == "owl"
    assert {*tests.error[["test", "unlabelled"]]} == {f"in the test folder set/{test}"}
    assert any(f"(in the test folder set/{test})" in line for line in table_notes(table))


@pytest.mark.parametrize(
    "train, test",
    [("train_images", "test_images"), ("training", "testing"), ("seg_train", "seg_test")],
)
def test_with_only_a_test_folder_the_rest_is_split_at_random(tmp_path, train, test):
    make(
        tmp_path, *each(f"{train}/cat", f"{train}/dog", count=10), *each(test), *each(f"{test}/cat")
    )
    table = build_table(tmp_path, "folder")
    assert sides_of(table) == {"cat": (8, 2), "dog": (8, 2)}
    assert (table.status == "unlabelled").sum() == 3
    assert set(table.label[table.status == "test"]) == {"cat"}


def test_files_outside_the_split_are_left_out_and_noted(tmp_path):
    make(tmp_path, *each("train/cat", "train/dog", "val/cat", "val/dog"))
    make(tmp_path, "cover.png", "train/stray.png", *each("unsup"), "more/owl/1.png")
    table = build_table(tmp_path, "folder").set_index("path")
    assert set(table.label) == {"cat", "dog", ""}
    assert table.error["train/stray.png"] == "in no class folder of train"
    for path in ("cover.png", "unsup/unsup0.png", "more/owl/1.png"):
        assert table.error[path] == "beside the folders of the split, in none of them"


def test_a_split_inside_each_class_is_used(tmp_path):
    for side, count in {"train": 4, "val": 2, "test": 3}.items():
        make(tmp_path, *each(f"cat/{side}", f"dog/{side}", count=count))
    assert sides_of(build_table(tmp_path, "folder")) == {"cat": (4, 2), "dog": (4, 2)}


def test_a_class_without_validation_images_is_noted(tmp_path):
    make(tmp_path, *each("train/cat", "train/dog", "val/cat"))
    assert "no image to validate on, so never evaluated: dog" in table_notes(
        build_table(tmp_path, "folder")
    )


def test_a_split_without_validation_images_is_an_error(tmp_path):
    make(tmp_path, *each("train/cat", "train/dog"))
    (tmp_path / "val/cat").mkdir(parents=True)
    (tmp_path / "val/cat/1.png").write_bytes(b"broken")
    with pytest.raises(
        TableError, match="--labels folder: its split leaves no usable image to val"
    ):
        build_table(tmp_path, "folder")


def test_beside_a_validation_part_an_evaluation_part_is_for_tests(tmp_path):
    make(tmp_path, *each("train/cat", "train/dog", "val/cat", "val/dog", "eval/cat", "eval/dog"))
    table = build_table(tmp_path, "folder")
    assert sides_of(table) == {"cat": (3, 3), "dog": (3, 3)}
    assert table.is_test.sum() == 6


@pytest.mark.parametrize("other", ["unlabeled", "Unlabelled2017", "unsup"])
def test_images_without_labels_beside_the_training_folder_are_no_class(tmp_path, other):
    make(tmp_path, *each("train/cat", "train/dog", count=5), *each(other))
    table = build_table(tmp_path, "folder")
    assert sides_of(table) == {"cat": (4, 1), "dog": (4, 1)}
    assert (table.status == "unlabelled").sum() == 3


@pytest.mark.parametrize("other", ["Validierung/cat", "extra", "old/owl/1"])
def test_a_folder_beside_train_that_may_be_a_part_or_a_class_is_asked_for(tmp_path, other):
    make(tmp_path, *each("set/train/cat", "set/train/dog"), *each(f"set/{other}"))
    name = other.partition("/")[0]
    with pytest.raises(TableError, match=rf"set/{name} beside train may be a part of a split or"):
        build_table(tmp_path, "folder")
    (tmp_path / "set" / name).rename(tmp_path / "set/train2")
    assert "cat" in sides_of(build_table(tmp_path, "folder"))


@pytest.mark.parametrize(
    "parts",
    [
        *(("train", "val"), ("train", "test"), ("train", "val", "test"), ("train", "unlabeled")),
        ("train2017", "val2017", "more"),
    ],
)
def test_a_split_without_class_folders_is_an_error(tmp_path, parts):
    make(tmp_path, *each(*parts))
    with pytest.raises(
        TableError, match=r"no classes, only parts of a split .*give --labels regex"
    ):
        build_table(tmp_path, "folder")


@pytest.mark.parametrize(
    "classes",
    [
        pytest.param(("train", "plane", "ship"), id="one of them alone"),
        pytest.param(("train", "testarossa", "ship"), id="a car"),
        pytest.param(("train station/a", "test tube/b", "ship/c"), id="other words"),
    ],
)
def test_class_names_that_resemble_a_split_stay_classes(tmp_path, classes):
    make(tmp_path, *each(*classes))
    table = build_table(tmp_path, "folder")
    assert set(table.status) == {"ok"}
    assert set(table.label) == {name.rpartition("/")[2] for name in classes}


def test_classes_named_like_a_split_are_noted(tmp_path):
    make(tmp_path, *each("black", "white", "test", "val"))
    assert "classes named like the parts of a split: test, val" in table_notes(
        build_table(tmp_path, "folder")
    )


def test_a_class_in_two_unicode_forms_is_one(tmp_path):
    mac, linux = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    make(tmp_path, f"{mac}/1.png", f"{mac}/2.png", f"{linux}/3.png", *each("thé"))
    table = build_table(tmp_path, "folder")
    assert sides_of(table) == {linux: (2, 1), "thé": (2, 1)}
    assert set(table.status) == {"ok"}, "each file is opened by its own name"
    assert table_notes(table) == [f"one class written in several Unicode forms: {linux}"]


def test_a_pattern_matches_names_in_either_unicode_form(tmp_path):
    mac, linux = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    make(tmp_path, f"{mac}_1.png", f"{linux}_2.png", "thé_1.png", "thé_2.png")
    for pattern in (mac, linux):
        table = build_table(tmp_path, rf"regex:^({pattern}|thé)_\d")
        assert table.label.tolist().count(linux) == 2


@pytest.mark.parametrize(
    "folders, note",
    [
        (["black", "black/2026-01", "white"], "folders of pictures at different depths: "),
        (
            ["black/2026-01", "white/2026-01", "white/2026-02"],
            "one class from several folders: 2026-01 (black, white)",
        ),
        (["Cat", "cat", "dog"], "classes that differ only by case, spaces or the like: Cat = cat"),
        (["thé vert", "thévert", "x"], "only by case, spaces or the like: thé vert = thévert"),
        (["ﬁsh", "fish", "x"], "only by case, spaces or the like: fish = ﬁsh"),
        (["0.jpg", "1.JPG", "x"], "classes named like files: 0.jpg, 1.JPG"),
        (["a", "a\u200b", "x"], "only by case, spaces or the like: a = a\\u200b"),
        (["jet_black", "jet black", "x"], "spaces or the like: jet black = jet_black"),
        (["jet-black", "jet\u2011black", "x"], "spaces or the like: jet-black = jet\u2011black"),
        (["0", "0.0", "007", "7"], "or the like: 0 = 0.0, 007 = 7"),
        (["a", "a|b", "c"], "labels like lists, each combination a class of its own: a|b"),
        (["['a','b']", "c"], "labels like lists, each combination a class of its own: ['a','b']"),
        (["a;b", "b;c"], "labels like lists, each combination a class of its own: a;b, b;c"),
    ],
)
def test_unusual_layouts_are_noted(tmp_path, folders, note):
    make(tmp_path, *each(*folders))
    assert [line for line in table_notes(build_table(tmp_path, "folder")) if note in line]


def test_the_same_depth_on_both_sides_of_a_split_is_not_noted(tmp_path):
    make(tmp_path, *each("train/cat", "train/dog", "val/cat", "val/dog"))
    (line,) = table_notes(build_table(tmp_path, "folder"))
    assert line.startswith("the split is that of the folders")


def test_classes_are_listed_with_their_counts(tmp_path, caplog):
    make(tmp_path, *each("cat", count=10), *each("dog", count=5))
    with caplog.at_level(logging.INFO, "visionflows"):
        build_table(tmp_path, "folder")
    assert "classes, and how many of each to validate on: cat 10 (2), dog 5 (1)" in caplog.text


def test_notes_are_logged_when_the_table_is_built(tmp_path, caplog):
    make(tmp_path, *each("cat", "Cat"))
    with caplog.at_level(logging.INFO, "visionflows"):
        build_table(tmp_path, "folder")
    assert "note: classes that differ only by case, spaces or the like: Cat = cat" in caplog.text


def test_at_most_200_classes_are_listed(tmp_path, caplog):
    make(tmp_path, *each(*(f"{at:03}" for at in range(203)), count=2))
    with caplog.at_level(logging.INFO, "visionflows"):
        build_table(tmp_path, "folder")
    assert "199 2 (1), … 3 more" in caplog.text


def test_the_error_of_a_pattern_without_matches_shows_what_it_tried(tmp_path):
    make(tmp_path, *each("cat", "dog"))
    with pytest.raises(
        TableError, match=r"sees only the name of a file, cat0\.png, and matches no"
    ):
        build_table(tmp_path, "regex:^(cat|dog)/")


def test_notes_survive_pickling(tmp_path):
    import pickle

    make(tmp_path, *each("cat", "Cat"))
    table = pickle.loads(pickle.dumps(build_table(tmp_path, "folder")))
    assert (
        json.dumps(table_notes(table))
        == '["classes that differ only by case, spaces or the like: Cat = cat"]'
    )
