"""Groups stay on one side of the split."""

import logging
from pathlib import Path

import pytest
from conftest import encoded, picture
from labelled_folders import make, stopped

from visionflows.datasets.file_table import build_table, fingerprint
from visionflows.datasets.table_notes import table_notes
from visionflows.errors import SettingsError

BY_NAME = "regex:(cat|dog)"
CAMERA = r"regex:camera(\d+)"


def cameras(folder: Path, counts: list[int]) -> Path:
    """So many cats and as many dogs of each camera, in camera0/, camera1/ …"""
    for camera, count in enumerate(counts):
        make(
            folder, *(f"camera{camera}/{k}{at}.png" for k in ("cat", "dog") for at in range(count))
        )
    return folder


def sides(table) -> dict[str, bool]:
    return dict(zip(table.path, table.is_valid, strict=True))


# The rule


@pytest.mark.parametrize(
    "group, says",
    [
        ("folders", "--group folders: no such rule; give folder, regex:"),
        ("folder:x", "no such rule"),
        ("column:", "no such rule"),
        ("regex:", "no such rule"),
        ("regex:(", "not a regular expression: missing"),
        (r"regex:(a)(b)", r"has 2 groups; put one \(…\) around the group's name"),
        ("column:site", "needs --labels csv:<path or URI>, but has --labels regex"),
    ],
)
def test_an_invalid_rule_is_refused_before_any_work(tmp_path, group, says):
    with pytest.raises(SettingsError, match=says):
        build_table(tmp_path / "nowhere", BY_NAME, group=group)


@pytest.mark.parametrize("group, first", [("folder", "camera0"), (CAMERA, "0"), ("", "")])
def test_the_group_is_a_column_of_the_table(tmp_path, group, first):
    table = build_table(cameras(tmp_path, [2] * 4), BY_NAME, group=group)
    assert table.group[0] == first
    assert table.group.nunique() == (4 if group else 1)
    assert table_notes(table) == []


def test_a_column_of_the_csv_is_the_group(tmp_path):
    cameras(tmp_path, [3] * 4)
    paths = [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*.png"))]
    lines = [f"{path},{path.name[:3]},{path.parent}" for path in paths]
    lines[0] = lines[0].replace(",camera0", ",  ")
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,Site", *lines]))
    table = build_table(tmp_path, "csv:labels.csv", group="column:site")
    assert table.group.value_counts().to_dict() == {"": 1} | dict.fromkeys(
        [f"camera{at}" for at in (1, 2, 3)], 6
    ) | {"camera0": 5}
    assert table[table.group != ""].groupby("group").is_valid.nunique().eq(1).all()
    assert table_notes(table) == [
        "--group column:site: 1 images without a group, each one of its own: camera0/cat0.png"
    ]
    line = stopped(tmp_path, "csv:labels.csv", group="column:camera")
    assert "has no columns camera, of --group column:camera; its first line names path" in line


def test_a_photo_in_the_root_is_a_group_of_its_own(tmp_path):
    make(cameras(tmp_path, [3] * 4), "cat8.png", "cat9.png")
    table = build_table(tmp_path, BY_NAME, group="folder")
    (note,) = table_notes(table)
    assert note.endswith("2 images without a group, each one of its own: cat8.png, cat9.png")


# The split


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_on_one_side_and_each_class_has_its_share(tmp_path, seed):
    table = build_table(cameras(tmp_path, [1, 2, 3, 4] * 5), BY_NAME, group="folder", seed=seed)
    assert table.groupby("group").is_valid.nunique().eq(1).all()
    assert table.groupby("label").is_valid.mean().between(0.17, 0.23).all()
    assert sides(build_table(tmp_path, BY_NAME, seed=seed)) != sides(table)


def test_a_new_image_moves_few_others_and_a_seed_most(tmp_path):
    before = build_table(cameras(tmp_path, [2] * 30), BY_NAME, group="folder", seed=1)
    make(tmp_path, "camera3/cat99.png", "camera30/dog98.png")
    after = sides(build_table(tmp_path, BY_NAME, group="folder", seed=1))
    moved = [path for path, side in sides(before).items() if side != after[path]]
    assert len(moved) <= 4
    assert sides(build_table(tmp_path, BY_NAME, group="folder", seed=2)) != after


def test_groups_that_share_near_duplicates_are_one(tmp_path):
    cameras(tmp_path, [3] * 10)
    for camera in range(5):
        photo = picture(camera, (60, 50))
        (tmp_path / f"camera{camera}/cat8.png").write_bytes(encoded(photo, "PNG"))
        smaller = encoded(photo.resize((30, 25)), "PNG")
        (tmp_path / f"camera{camera + 5}/cat9.png").write_bytes(smaller)
    for seed in range(3):
        table = build_table(tmp_path, BY_NAME, group="folder", seed=seed)
        by_camera = table.groupby("group").is_valid.all()
        assert table.groupby("group").is_valid.nunique().eq(1).all()
        for camera in range(5):
            assert by_camera[f"camera{camera}"] == by_camera[f"camera{camera + 5}"]
        assert 0 < by_camera.sum() < 10


def test_two_groups_are_a_side_each(tmp_path):
    table = build_table(cameras(tmp_path, [5, 5]), BY_NAME, group="folder")
    assert table.groupby("group").is_valid.mean().sort_values().to_list() == [0, 1]


def test_a_class_with_one_group_is_in_training_and_noted(tmp_path, caplog):
    make(cameras(tmp_path, [3] * 5), *(f"camera1/owl{at}.png" for at in range(3)))
    with caplog.at_level(logging.WARNING, "visionflows"):
        table = build_table(tmp_path, "regex:(cat|dog|owl)", group="folder")
    assert not table.is_valid[table.group == "camera1"].any()
    assert "trained on and never evaluated: owl" in caplog.text
    assert table_notes(table) == ["no image to validate on, so never evaluated: owl"]


def test_groups_that_cannot_be_split_are_an_error(tmp_path):
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    line = stopped(cameras(one, [4]), BY_NAME, group="folder")
    assert line.startswith("--group folder: all 8 images are in one group")
    assert "give a --group of which each class has several" in line
    make(two, "cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
    line = stopped(two, group="folder")
    assert "--labels folder makes each group a class of its own, cat in cat, dog in dog" in line
    make(three, "a/cat1.png", "a/dog1.png", "a/owl1.png", "b/cat2.png", "b/dog2.png", "b/elk1.png")
    line = stopped(three, "regex:(cat|dog|owl|elk)", group="folder")
    assert "each group has all images of some class, such as elk in b, owl in a" in line
    line = stopped(one, BY_NAME, group="regex:site(.)")
    assert "--group regex:site(.): gives no image a group, such as camera0/cat0.png" in line


def test_a_given_split_stays_and_the_groups_on_both_sides_are_noted(tmp_path):
    for side, kinds in {"train": (0, 1, 2), "val": (2, 3)}.items():
        for kind in ("cat", "dog"):
            make(tmp_path, *(f"{side}/{kind}/camera{at}_{side}.png" for at in kinds))
    before = build_table(tmp_path, "folder")
    table = build_table(tmp_path, "folder", group=CAMERA)
    assert sides(table) == sides(before)
    assert (
        f"--group {CAMERA}: moves no image of a given split; 1 of 4 groups are in training and in "
        "validation: 2 (2 and 2 images)"
    ) in table_notes(table)
    assert fingerprint(table) != fingerprint(before)
