"""Several labels a photo: where they come from, the file table, and its split and notes."""

from collections import Counter

import pytest
from label_tables import make, stopped

from visionflows.datasets.file_table import build_table, fingerprint
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.datasets.stratify import IMAGES, stratify
from visionflows.datasets.table_notes import table_notes
from visionflows.errors import SettingsError, TableError
from visionflows.label_sets import by_class

CELLS = ["cat;sofa", "sofa", "dog", "cat", "dog; sofa", "cat;dog", "sofa;cat", "dog"]


def csv_of(folder, cells=CELLS, **options):
    """Photos with these cells of labels, and the rule of their CSV."""
    paths = [f"{at}.jpg" for at in range(len(cells))]
    make(folder, *paths)
    lines = ["path,label", *(f'{path},"{cell}"' for path, cell in zip(paths, cells, strict=True))]
    (folder / "labels.csv").write_text("\n".join(lines))
    return parse_label_rule(f"csv:{folder}/labels.csv", **options)


def test_a_separator_parts_the_labels_of_a_cell(tmp_path):
    table = build_table(tmp_path, csv_of(tmp_path, separator=";"))
    assert table.attrs["multi_label"]
    assert table.label.tolist() == [
        *("cat;sofa", "sofa", "dog", "cat", "dog;sofa", "cat;dog", "cat;sofa", "dog")
    ]
    assert {*table.status} == {"ok"}
    for side in (True, False):
        assert {*by_class(table[table.is_valid == side]).label} == {"cat", "dog", "sofa"}


def test_without_one_each_combination_is_a_class_and_a_note_says_so(tmp_path):
    table = build_table(tmp_path, csv_of(tmp_path, ["cat;sofa", "cat", "cat;sofa", "cat"]))
    assert not table.attrs["multi_label"]
    assert {*table.label} == {"cat;sofa", "cat"}
    assert any("labels like lists" in note for note in table_notes(table))


def test_a_plain_source_may_have_a_model_of_several_labels(tmp_path):
    make(tmp_path, *(f"{name}/{at}.jpg" for name in ("cat", "dog") for at in range(4)))
    one, several = (
        build_table(tmp_path, parse_label_rule("folder", multi_label=multi))
        for multi in (None, True)
    )
    assert [table.attrs["multi_label"] for table in (one, several)] == [False, True]
    assert one.label.equals(several.label)
    assert fingerprint(one) != fingerprint(several)


def test_one_label_only_leaves_out_what_has_two(tmp_path):
    cells = ["cat;sofa", "cat", "dog", "cat", "dog"]
    table = build_table(tmp_path, csv_of(tmp_path, cells, separator=";", multi_label=False))
    assert not table.attrs["multi_label"]
    assert table.label.tolist() == ["", "cat", "dog", "cat", "dog"]
    assert table.status[0] == "unlabelled"
    assert table.error[0] == "has 2 labels, and --no-multi-label takes one: cat, sofa"


def test_an_empty_cell_says_nothing(tmp_path):
    table = build_table(tmp_path, csv_of(tmp_path, [*CELLS, ""], separator=";"))
    assert table.status.tolist() == ["ok"] * 8 + ["unlabelled"]


def test_a_class_with_a_semicolon_is_refused(tmp_path):
    rule = csv_of(tmp_path, ["cat|so;fa", "dog"], separator="|")
    with pytest.raises(TableError, match="the class so;fa has a ;"):
        build_table(tmp_path, rule)


def test_a_separator_needs_a_source_of_text():
    with pytest.raises(SettingsError, match="--label-sep ;: needs --labels of csv"):
        parse_label_rule("uppercase", ";")


def test_imbalance_is_of_classes_not_of_combinations(tmp_path):
    cells = ["cat;sofa"] * 11 + ["dog;cat"]
    table = build_table(tmp_path, csv_of(tmp_path, cells, separator=";"))
    notes = table_notes(table)
    assert any("12 images of cat, 1 of dog" in note for note in notes)
    assert "no image to validate on, so never evaluated: dog" in notes
    assert not any("never learned" in note for note in notes)


def test_copies_under_other_labels_are_noted_and_trained_on(tmp_path):
    rule = csv_of(tmp_path, CELLS, separator=";")
    (tmp_path / "1.jpg").write_bytes((tmp_path / "2.jpg").read_bytes())
    table = build_table(tmp_path, rule)
    assert any("same bytes under different labels: 1, 1.jpg" in note for note in table_notes(table))
    assert not table.is_valid[1:3].any()


def test_groups_stay_on_one_side(tmp_path):
    names = [f"cam{at % 5}/{at}.jpg" for at in range(30)]
    make(tmp_path, *names)
    cells = [("cat;sofa", "sofa;dog", "dog")[at % 3] for at in range(30)]
    lines = [f"{name},{cell}" for name, cell in zip(names, cells, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    rule = parse_label_rule(f"csv:{tmp_path}/labels.csv", ";")
    table = build_table(tmp_path, rule, group="folder")
    assert table.groupby("group").is_valid.nunique().max() == 1
    assert table.is_valid.sum() == 6


def test_the_split_is_the_same_each_time_and_other_with_another_seed(tmp_path):
    rule = csv_of(tmp_path, CELLS * 5, separator=";")
    one, two, other = (build_table(tmp_path, rule, seed=seed) for seed in (1, 1, 2))
    assert one.equals(two)
    assert one.is_valid.tolist() != other.is_valid.tolist()


def test_test_images_of_unknown_classes_are_not_used(tmp_path):
    lines = [f"{at}.jpg,{cell},train" for at, cell in enumerate(CELLS)]
    lines += ["8.jpg,cat;sofa,test", "9.jpg,cat;owl,test", "1.jpg,sofa,train"]
    make(tmp_path, *(f"{at}.jpg" for at in range(10)))
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *lines]))
    table = build_table(tmp_path, parse_label_rule(f"csv:{tmp_path}/labels.csv", ";"))
    assert table.status.tolist() == ["ok"] * 8 + ["test", "unknown_class"]


def test_one_class_is_too_few(tmp_path):
    csv_of(tmp_path, ["cat"] * 4)
    assert "gives all 4 images one label, cat" in stopped(
        tmp_path, parse_label_rule(f"csv:{tmp_path}/labels.csv", ";")
    )


def test_parts_have_their_share_of_each_class():
    units = [
        Counter({IMAGES: 1, **{f"c{c}": 1 for c in range(12) if (at * 7 + c * c) % (c + 3) == 0}})
        for at in range(600)
    ]
    totals = sum(units, Counter())
    parts = stratify(units, (0.8, 0.2))
    valid = sum((unit for unit, part in zip(units, parts, strict=True) if part), Counter())
    for name, n in totals.items():
        assert abs(valid[name] / n - 0.2) < 0.02, name
    folds = stratify(units, [0.2] * 5)
    assert {*Counter(folds).values()} <= {*range(115, 126)}


def test_the_first_part_has_every_class():
    alone = [Counter({IMAGES: 1, name: 1}) for name in "abcd"]
    assert stratify(alone, (0.1, 0.9)) == [0] * 4
    pair = [Counter({IMAGES: 1, "a": 1})] * 2
    assert sorted(stratify(pair, (0.8, 0.2))) == [0, 1]


def test_a_class_that_a_given_split_never_trains_is_refused(tmp_path):
    lines = [f"{at}.jpg,{cell},{at > 5}" for at, cell in enumerate([*CELLS, "cat;owl"])]
    make(tmp_path, *(f"{at}.jpg" for at in range(9)))
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,is_valid", *lines]))
    rule = parse_label_rule(f"csv:{tmp_path}/labels.csv", ";")
    assert "its split leaves no image of owl to train on" in stopped(tmp_path, rule)


def test_a_class_of_damaged_photos_is_refused(tmp_path):
    rule = csv_of(tmp_path, [*CELLS, "cat;owl"], separator=";")
    (tmp_path / "8.jpg").write_bytes(b"\xff\xd8\xffdamaged")
    assert "no image of owl can be used, such as 8.jpg" in stopped(tmp_path, rule)
