"""The labelled file table: rows, split, notes and errors."""

import hashlib
import os
import shutil
import tarfile

import pytest
from conftest import encoded, picture
from labelled_folders import make, pets, stopped
from unprivileged import reachable_folder, unprivileged

from visionflows.datasets import file_table
from visionflows.datasets.file_table import COLUMNS, build_table, fingerprint
from visionflows.datasets.table_notes import table_notes
from visionflows.errors import SettingsError, StorageError
from visionflows.storage.name_encoding import decode_name


@pytest.mark.parametrize("options", [{"valid_pct": 0}, {"valid_pct": 1.0}])
def test_an_invalid_setting_is_refused_before_any_work(tmp_path, options):
    with pytest.raises(SettingsError):
        build_table(tmp_path / "nowhere", "folder", **options)


# The table


def test_the_table_has_one_row_per_image_with_all_columns(tmp_path):
    table = build_table(pets(tmp_path), "folder")
    assert list(table.columns) == COLUMNS
    assert list(table.path) == sorted(table.path)
    assert len(table) == 20
    first = table.iloc[0]
    assert first.sha256 == hashlib.sha256((tmp_path / first.path).read_bytes()).hexdigest()
    assert (first.width, first.height, first.status, first.error) == (12, 9, "ok", "")


def test_width_and_height_are_those_of_the_upright_image(tmp_path):
    exif = picture().getexif()
    exif[0x0112] = 6
    (pets(tmp_path) / "cat/turned.jpg").write_bytes(encoded(picture(size=(30, 20)), exif=exif))
    table = build_table(tmp_path, "folder").set_index("path")
    assert tuple(table.loc["cat/turned.jpg", ["width", "height"]]) == (20, 30)


def test_unusable_images_stay_in_the_table_and_out_of_the_split(tmp_path):
    pets(tmp_path)
    (tmp_path / "cat/text.jpg").write_bytes(b"hello")
    (tmp_path / "cat/empty.jpg").touch()
    (tmp_path / "cat/two\nlines.jpg").write_bytes(encoded(picture())[:300])
    (tmp_path / "dog/huge.png").write_bytes(encoded(picture(size=(40, 30)), "PNG"))
    (tmp_path / "dog/gone.png").symlink_to("nowhere.png")
    table = build_table(tmp_path, "folder", valid_pct=0.9, max_pixels=1_000)
    bad = table[table.status != "ok"].set_index("path")
    assert dict(bad.status) == {
        "cat/empty.jpg": "unreadable",
        "cat/text.jpg": "unreadable",
        "cat/two\nlines.jpg": "unreadable",
        "dog/gone.png": "missing",
        "dog/huge.png": "too_large",
    }
    assert bad.error.astype(bool).all()
    assert not bad.is_valid.any()
    assert set(bad.width) == {0}
    notes = table_notes(table)
    assert all(line.isprintable() for line in notes), "a note is one line"
    assert [line.partition(",")[0] for line in notes] == [
        *("left out as missing: 1", "left out as too_large: 1", "left out as unreadable: 3"),
    ]
    assert "cat/empty.jpg (empty file (0 bytes))" in notes[2]
    assert r"'cat/two\nlines.jpg'" in notes[2]


def test_names_that_are_not_utf8_can_be_opened(tmp_path):
    make(
        tmp_path,
        *(os.fsdecode(b"%s\xe9/%d.png" % (kind, at)) for kind in (b"a", b"b") for at in (1, 2)),
    )
    table = build_table(tmp_path, "folder")
    assert set(table.label) == {"a\\xe9", "b\\xe9"}
    assert set(table.status) == {"ok"}
    assert (tmp_path / decode_name(table.path[0])).exists()


def test_files_of_a_folder_without_execute_permission_are_unreadable():
    with reachable_folder() as folder:
        make(pets(folder), "closed/c1.png")
        for path in folder.rglob("*"):
            path.chmod(0o755)
        (folder / "closed").chmod(0o744)  # as chmod -R leaves it

        def status_and_error() -> str:
            table = build_table(folder, "regex:^([cd])").set_index("path")
            return " ".join(table.loc["closed/c1.png", ["status", "error"]])

        assert unprivileged(status_and_error) == "unreadable cannot be read: Permission denied"


# The split


def test_the_split_is_a_share_of_every_class(tmp_path):
    table = build_table(pets(tmp_path, cats=40, dogs=15), "folder", valid_pct=0.2)
    assert table.groupby("label").is_valid.sum().to_dict() == {"cat": 8, "dog": 3}


@pytest.mark.parametrize("valid_pct", [0.001, 0.5, 0.999])
def test_every_class_has_an_image_on_each_side(tmp_path, valid_pct):
    table = build_table(pets(tmp_path, cats=9, dogs=2), "folder", valid_pct=valid_pct)
    sides = table.groupby("label").is_valid
    assert (sides.sum() >= 1).all()
    assert ((~table.is_valid).groupby(table.label).sum() >= 1).all()


def test_the_split_depends_on_the_seed(tmp_path, monkeypatch):
    pets(tmp_path, 20, 20)
    first = build_table(tmp_path, "folder", seed=1)
    for threads in (1, 7):
        monkeypatch.setattr(file_table, "decoder_count", lambda threads=threads: threads)
        assert build_table(tmp_path, "folder", seed=1).equals(first)
    assert not build_table(tmp_path, "folder", seed=2).is_valid.equals(first.is_valid)


def test_the_split_depends_on_content_and_not_on_names_or_order(tmp_path):
    pets(tmp_path / "one", 20, 20)
    for at, file in enumerate(sorted((tmp_path / "one").rglob("*.png"), reverse=True)):
        moved = tmp_path / "two" / f"part{at % 3}" / file.parent.name / f"{at}.png"
        moved.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, moved)
    one, two = build_table(tmp_path / "one", "folder"), build_table(tmp_path / "two", "folder")
    assert set(one.sha256[one.is_valid]) == set(two.sha256[two.is_valid])


def test_identical_files_are_on_the_same_side(tmp_path):
    pets(tmp_path, 12, 12)
    for file in list(tmp_path.rglob("*.png")):
        for copy in range(2):
            shutil.copy(file, file.with_name(f"{file.stem}-{copy}.png"))
    table = build_table(tmp_path, "folder", valid_pct=0.4)
    assert table.groupby("sha256").is_valid.nunique().eq(1).all()
    assert table.is_valid.sum() == 2 * 5 * 3


def test_the_same_bytes_under_two_labels_stay_in_training_and_are_noted(tmp_path):
    pets(tmp_path, 5, 5)
    shutil.copy(tmp_path / "cat/c0.png", tmp_path / "dog/as-cat.png")
    for seed in range(5):
        table = build_table(tmp_path, "folder", valid_pct=0.9, seed=seed)
        twins = table[table.path.isin(["cat/c0.png", "dog/as-cat.png"])]
        assert not twins.is_valid.any()
        assert table_notes(table) == [
            "same bytes under different labels: 1, cat/c0.png (cat) = dog/as-cat.png (dog)"
        ]


# Errors


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    make(tmp_path, ".hidden.png", "__MACOSX/cat/1.png")
    assert stopped(tmp_path) == (
        f"{tmp_path}: no image found; name a folder that holds .jpg, .png or such"
    )


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="no such folder"):
        build_table(tmp_path / "nowhere", "folder")


def test_a_rule_that_matches_no_file_is_an_error_that_names_three_files(tmp_path):
    make(tmp_path, *(f"{at}.png" for at in range(5)))
    expected = "matches no file, such as 0.png, 1.png, 2.png, …"
    assert stopped(tmp_path, r"regex:^([a-z]+)_").endswith(expected)
    assert stopped(tmp_path, "folder").endswith(expected)


def test_a_single_class_is_an_error(tmp_path):
    make(tmp_path, *(f"photos/{at}.png" for at in range(5)))
    assert "gives all 5 images one label, photos; training needs two" in stopped(tmp_path)


def test_a_class_of_one_image_is_in_training_and_noted_as_never_evaluated(tmp_path, caplog):
    pets(tmp_path, 5, 5)
    make(tmp_path, "owl/1.png")
    make(tmp_path, "elk/1.png", "elk/2.png", "elk/3.png", seed=1)  # one image, three times
    table = build_table(tmp_path, "folder")
    sides = table.groupby("label").is_valid.agg(["size", "sum"])
    assert sides.loc[["elk", "owl"]].to_numpy().tolist() == [[3, 0], [1, 0]]
    assert sides.loc["cat", "sum"] == sides.loc["dog", "sum"] == 1
    assert "one image only, so trained on and never evaluated: elk, owl" in caplog.text
    assert "no image to validate on, so never evaluated: elk, owl" in table_notes(table)


def test_classes_of_one_image_each_are_an_error(tmp_path):
    make(tmp_path, "owl/1.png", "elk/2.png")
    shutil.copyfile(tmp_path / "elk/2.png", tmp_path / "elk/copy.png")
    assert stopped(tmp_path).startswith("too few images to split: elk, owl have one each; a class")


def test_a_class_with_only_images_of_other_classes_is_an_error(tmp_path):
    pets(tmp_path, 5, 5)
    shutil.copytree(tmp_path / "cat", tmp_path / "felis")
    assert stopped(tmp_path).startswith("too few images to split: cat, felis; a class needs")


def test_a_class_with_only_broken_images_is_an_error(tmp_path):
    pets(tmp_path, 5, 0)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog/1.png").write_bytes(b"x")
    assert stopped(tmp_path) == (
        "no image of dog can be used, such as dog/1.png: not an image in a format that can be "
        "read; mend them or take the class out"
    )


def test_the_error_of_a_class_of_camera_raw_files_says_so(tmp_path):
    pets(tmp_path, 5, 5)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/1.tif").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(500))
    assert "no image of raw can be used, such as raw/1.tif: camera raw (CR2" in stopped(tmp_path)


def test_the_error_of_one_class_names_those_of_the_test_part(tmp_path):
    """The layout of MVTec: only sound pieces are to train on."""
    make(tmp_path, *(f"bottle/train/good/{at}.png" for at in range(4)))
    make(tmp_path, *(f"bottle/test/{kind}/{at}.png" for kind in ("good", "bad") for at in range(4)))
    assert "one label, good; bad is only in the test part, which is not trained on" in stopped(
        tmp_path
    )


def test_only_broken_images_are_an_error(tmp_path):
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert stopped(tmp_path) == (
        "none of 2 images can be used, such as cat/1.png: empty file (0 bytes)"
    )


# Notes and fingerprint


def test_a_table_without_problems_has_no_notes(tmp_path):
    assert table_notes(build_table(pets(tmp_path, 20, 2), "folder")) == []


def test_imbalanced_classes_are_noted(tmp_path):
    table = build_table(pets(tmp_path, 21, 2), "folder")
    assert table_notes(table) == [
        "classes far out of balance: 21 images of cat, 2 of dog; add photos of the rare classes, "
        "or train with --balance sqrt (or full) and --metric balanced_accuracy"
    ]


def test_the_fingerprint_depends_on_the_training_data(tmp_path):
    table = build_table(pets(tmp_path), "folder")
    assert fingerprint(build_table(tmp_path, "folder")) == fingerprint(table)
    assert fingerprint(table.sample(frac=1, random_state=1)) == fingerprint(table)
    (tmp_path / "cat/broken.png").touch()
    assert fingerprint(build_table(tmp_path, "folder")) == fingerprint(table)
    columns = {"path": "x", "label": "y", "sha256": "0", "group": "z", "is_valid": None}
    for column, value in columns.items():
        changed = table.copy()
        changed.loc[3, column] = (not table.is_valid[3]) if value is None else value
        assert fingerprint(changed) != fingerprint(table), column


# The tutorial's own photos


def test_the_tutorials_photos_with_the_tutorials_rule(tmp_path, shared_data):
    with tarfile.open(shared_data / "cats-dogs.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    table = build_table(tmp_path, "uppercase")
    assert table.label.value_counts().to_dict() == {"True": 1001, "False": 1001}
    # 200 of each are drawn; one of them duplicates a photo that is not drawn.
    assert table[table.is_valid].label.value_counts().to_dict() == {"True": 200, "False": 201}
    assert (table.label == "True").equals(table.path.str.contains("Cat"))
    same = [f"cats-dogs/images/village_dog_{number}.jpg" for number in (180, 74)]
    assert table.is_valid[table.path.isin(same)].all()
    (note,) = table_notes(table)
    assert note.startswith("near-duplicates: 2 images in 1 group, ")
    assert all(f"{path} (False)" in note for path in same)
