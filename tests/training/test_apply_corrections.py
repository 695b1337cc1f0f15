"""Corrections of a file table: labels, split, imported images."""

import csv
import shutil
from pathlib import Path

import pytest
from conftest import CLASSES, SMALL, write_shapes
from PIL import Image

from flows.train import train
from visionflows.datasets.file_table import COLUMNS, build_table, fingerprint
from visionflows.datasets.split import group_contents, near_duplicate_ids
from visionflows.datasets.table_notes import table_notes
from visionflows.errors import TableError
from visionflows.hashing import sha256_of
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.review.corrections import Correction, format_corrections
from visionflows.training.apply_corrections import NONE, apply_corrections
from visionflows.training.comparison import pair_predictions
from visionflows.training.settings import TrainSettings

TINY = TrainSettings(**SMALL, epochs=1, precision="float32")


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_shapes(tmp_path / "shapes", each=12)


@pytest.fixture
def inbox(tmp_path) -> Path:
    """Scored photos that are not in the dataset."""
    return write_shapes(tmp_path / "in", each=6, first_seed=500)


def correction(root: Path, path: str, label: str, answer: str = "other") -> Correction:
    sha256 = sha256_of((root / path).read_bytes())
    return Correction(path, sha256, label, answer if label else "none", root=str(root))


def saved(folder: Path, *rows: Correction, name: str = "corrections.csv") -> str:
    (folder / name).write_bytes(format_corrections(rows))
    return str(folder / name)


def row_of(files, path: str):
    return files[files.path == path].iloc[0]


def test_an_image_of_the_dataset_gets_its_label_and_is_trained_on(dataset, tmp_path):
    files = build_table(dataset, "folder")
    valid = files[files.is_valid].path.tolist()
    shutil.copy(
        dataset / valid[0], dataset / "circle/copy.png"
    )  # the same content under another name
    files = build_table(dataset, "folder")
    changed, confirmed, none = valid[0], valid[1], valid[2]
    other = next(name for name in CLASSES if name not in changed)
    storage = saved(
        tmp_path,
        correction(dataset, changed, other),
        correction(dataset, confirmed, confirmed.partition("/")[0], "right"),
        correction(dataset, none, ""),
    )
    found = apply_corrections(files, dataset, [storage], tmp_path / "store", TINY)
    assert found.folder == dataset
    for path, label in ((changed, other), ("circle/copy.png", other)):
        row = row_of(found.files, path)
        assert (row.label, bool(row.is_valid), row.status) == (label, False, "ok")
    assert not row_of(found.files, confirmed).is_valid
    left_out = row_of(found.files, none)
    assert (left_out.status, left_out.label, left_out.error) == ("unlabelled", "", NONE)
    counts = found.files.attrs["corrections"]
    assert (counts["taken"], counts["changed"], counts["left_out"], counts["lost"]) == (2, 1, 1, 0)
    assert fingerprint(found.files) != fingerprint(files)
    assert any("2 corrected labels" in note for note in table_notes(found.files))
    others = ~files.path.isin([changed, "circle/copy.png", confirmed, none])
    assert found.files[others].equals(files[others])

    kept = apply_corrections(files, dataset, [storage], tmp_path / "store", TINY, valid_pct=0.2)
    assert row_of(kept.files, changed)[["label", "is_valid"]].tolist() == [other, True]
    assert not row_of(kept.files, none).is_valid


def test_a_corrected_test_image_keeps_its_label_and_is_not_trained_on(tmp_path):
    folder = tmp_path / "shapes"
    for at, part in enumerate(("train", "val", "test")):
        write_shapes(folder / part, each=4, first_seed=100 * at)
    files = build_table(folder, "folder")
    test, train_image = "test/circle/0200.png", "train/circle/0000.png"
    rows = [correction(folder, path, "square") for path in (test, train_image)]
    storage = saved(tmp_path, *rows)
    found = apply_corrections(files, folder, [storage], tmp_path / "store", TINY).files
    assert row_of(found, train_image).label == "square"
    assert row_of(found, test).equals(row_of(files, test))
    assert found.attrs["corrections"]["imported"] == 0
    assert any(
        f"keep their label and are not trained on: 1, {test}" in n for n in table_notes(found)
    )


def test_a_scored_photo_is_imported(dataset, inbox, where, tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "cache"))
    files, store = build_table(dataset, "folder"), where(tmp_path / "store")
    paths = [f"{name}/{500 + number:04d}.png" for name in CLASSES for number in range(3)]
    rows = [correction(inbox, path, CLASSES[at % 3]) for at, path in enumerate(paths)]
    rows = [row._replace(root=where(inbox)) for row in rows]
    (inbox / paths[0]).unlink()  # deleted after scoring
    (inbox / paths[1]).write_bytes(b"another content")
    storage = saved(tmp_path, *rows)
    found = apply_corrections(files, dataset, [storage], store, TINY)
    counts = found.files.attrs["corrections"]
    assert (counts["taken"], counts["imported"], counts["lost"]) == (7, 7, 2)
    assert any(f"not trained on: 2, {paths[0]}" in note for note in table_notes(found.files))
    new = found.files[found.files.path.str.startswith("corrections/")]
    assert {*zip(new.sha256, new.label, strict=True)} == {
        (row.sha256, row.label) for row in rows[2:]
    }
    assert not new.is_valid.any()
    assert list(found.files.columns) == COLUMNS
    for row in found.files.itertuples():  # every listed file exists, with its content
        assert sha256_of((found.folder / row.path).read_bytes()) == row.sha256
    assert sorted(path.name for path in dataset.iterdir()) == sorted(CLASSES)  # unchanged

    shutil.rmtree(inbox)  # imported images stay when the inbox is emptied
    again = apply_corrections(files, dataset, [storage], store, TINY)
    assert again.folder == found.folder
    assert again.files.equals(found.files)
    half = apply_corrections(files, dataset, [storage], store, TINY, valid_pct=0.5).files
    assert 0 < half[half.path.isin(new.path)].is_valid.sum() < 7


def test_a_photo_beside_its_corrections_is_found(dataset, inbox, tmp_path):
    row = correction(inbox, "square/0500.png", "square")._replace(root="/nowhere")
    found = apply_corrections(
        build_table(dataset, "folder"), dataset, [saved(inbox, row)], tmp_path / "store", TINY
    )
    assert found.files.attrs["corrections"]["imported"] == 1


def test_photos_that_are_all_missing_are_an_error(dataset, inbox, tmp_path):
    storage = saved(tmp_path, correction(inbox, "square/0500.png", "square"))
    shutil.rmtree(inbox)
    with pytest.raises(TableError, match=r"none of 1 images was found .*square/0500\.png; put"):
        apply_corrections(
            build_table(dataset, "folder"), dataset, [storage], tmp_path / "store", TINY
        )


def test_the_later_file_wins_and_is_logged(dataset, tmp_path, caplog):
    caplog.set_level("INFO")
    one = saved(tmp_path, correction(dataset, "circle/0000.png", "square"), name="1.csv")
    two = saved(tmp_path, correction(dataset, "circle/0000.png", "stripes"), name="2.csv")
    files = build_table(dataset, "folder")
    for locations, label in (([one, two], "stripes"), ([two, one], "square")):
        found = apply_corrections(files, dataset, locations, tmp_path / "store", TINY)
        assert row_of(found.files, "circle/0000.png").label == label
    assert "corrections disagree on 1 images, and the last one counts" in caplog.text


def test_a_new_class_needs_ten_images(dataset, inbox, tmp_path):
    files, store = build_table(dataset, "folder"), tmp_path / "store"
    paths = sorted(str(path.relative_to(inbox)) for path in inbox.rglob("*.png"))
    few = saved(tmp_path, *(correction(inbox, path, "wolf") for path in paths[:9]))
    with pytest.raises(
        TableError, match="wolf is not a class of the dataset, and only 9 images have it"
    ):
        apply_corrections(files, dataset, [few], store, TINY)
    enough = saved(tmp_path, *(correction(inbox, path, "wolf") for path in paths[:10]))
    found = apply_corrections(files, dataset, [enough], store, TINY).files
    assert {*found[found.status == "ok"].label} == {*CLASSES, "wolf"}
    assert any("never evaluated: wolf" in note for note in table_notes(found))


def test_only_images_that_are_found_count_for_a_new_class(dataset, inbox, tmp_path):
    paths = sorted(str(path.relative_to(inbox)) for path in inbox.rglob("*.png"))[:12]
    storage = saved(tmp_path, *(correction(inbox, path, "wolf") for path in paths))
    for path in paths[9:]:
        (inbox / path).unlink()
    why = "and only 9 images have it .*needs 10; 3 corrected images were not found"
    with pytest.raises(TableError, match=why):
        apply_corrections(
            build_table(dataset, "folder"), dataset, [storage], tmp_path / "store", TINY
        )


def test_imported_images_are_on_the_side_of_their_near_duplicates(dataset, tmp_path):
    """Otherwise a network would be validated on training images."""
    files = build_table(dataset, "folder", seed=3)
    inbox = tmp_path / "in"
    inbox.mkdir()
    rows = []
    for number, row in enumerate(files.itertuples()):
        with Image.open(dataset / row.path) as image:
            image.resize((38, 38)).save(inbox / f"{number}.png")
        rows.append(correction(inbox, f"{number}.png", row.label))
    storage = saved(tmp_path, *rows)
    found = apply_corrections(
        files, dataset, [storage], tmp_path / "store", TINY, valid_pct=0.5
    ).files
    usable = found[found.status == "ok"]
    valid = {*usable.sha256[usable.is_valid]}
    groups = group_contents(usable, near_duplicate_ids(usable))
    assert sum(map(len, groups)) > len(files)
    assert not [group for group in groups if 0 < len(valid.intersection(group)) < len(group)]
    assert {*files.sha256[files.is_valid]} <= valid


def test_a_corrected_image_takes_its_group_to_training(dataset, tmp_path):
    files = build_table(dataset, "folder", group=r"regex:(\d)\.png", valid_pct=0.4)
    first = files[files.is_valid].iloc[0]
    group = files.group == first.group
    assert files.is_valid[group].all()
    storage = saved(tmp_path, correction(dataset, first.path, "circle"))
    found = apply_corrections(files, dataset, [storage], tmp_path / "store", TINY)
    assert found.files.is_valid.equals(files.is_valid & ~group)
    note = f"; {group.sum() - 1} others moved to training, as near-duplicates or of a group"
    assert any(line.endswith(note) for line in table_notes(found.files))
    kept = apply_corrections(files, dataset, [storage], tmp_path / "store", TINY, valid_pct=0.2)
    assert kept.files.is_valid.equals(files.is_valid)
    cut = files.assign(group=files.group.where(files.is_valid, first.group))  # by a given split
    found = apply_corrections(cut, dataset, [storage], tmp_path / "store", TINY)
    assert found.files.is_valid.equals(files.is_valid & (files.path != first.path))


def test_near_duplicate_notes_use_the_corrected_labels(dataset, tmp_path):
    with Image.open(dataset / "circle/0000.png") as image:
        image.resize((38, 38)).save(dataset / "square/small.png")
    files = build_table(dataset, "folder")
    beside = "near-duplicates under different labels"
    assert [note for note in table_notes(files) if note.startswith(beside)]
    storage = saved(tmp_path, correction(dataset, "square/small.png", "circle"))
    found = apply_corrections(files, dataset, [storage], tmp_path / "store", TINY).files
    assert not [note for note in table_notes(found) if note.startswith(beside)]
    assert [note for note in table_notes(found) if note.startswith("near-duplicates: 2 images")]


def test_corrections_that_leave_no_validation_images_are_refused(dataset, tmp_path):
    files = build_table(dataset, "folder")
    valid = files[files.is_valid].path
    storage = saved(
        tmp_path, *(correction(dataset, path, path.partition("/")[0]) for path in valid)
    )
    with pytest.raises(TableError, match="to train on and 0 to validate on; add images"):
        apply_corrections(files, dataset, [storage], tmp_path / "store", TINY)


def test_no_corrections_yet_change_nothing(dataset, tmp_path):
    (tmp_path / "out/corrections").mkdir(parents=True)
    files = build_table(dataset, "folder")
    found = apply_corrections(files, dataset, [str(tmp_path / "out")], tmp_path / "store", TINY)
    assert found.files is files
    assert found.folder == dataset


@pytest.mark.slow
def test_a_model_is_trained_with_corrections_and_can_be_compared(trained, dataset, inbox, tmp_path):
    paths = [f"{name}/050{at}.png" for name in CLASSES for at in range(4)]
    rows = [correction(inbox, path, path.partition("/")[0], "right") for path in paths]
    storage, store = saved(tmp_path, *rows), str(tmp_path / "store")
    published = train(
        str(dataset),
        "shapes",
        settings=TINY,
        store=store,
        corrections=(storage,),
        corrections_in_validation=True,
    )
    model = load_model(find_model(published, store))
    counts = model.info.dataset.corrections
    assert (counts.taken, counts.imported, counts.in_validation, counts.files) == (
        12,
        12,
        True,
        [storage],
    )
    assert "12 corrected labels" in model.storage.read("report.html").decode()
    assert model.info.dataset.train + model.info.dataset.valid == 48
    listed = csv.DictReader(model.storage.read("files.csv").decode().splitlines())
    there = [row for row in listed if row["path"].startswith("corrections/")]
    assert {row["sha256"] for row in there} == {row.sha256 for row in rows}
    validated = sum(row["is_valid"] == "True" for row in there)
    assert validated
    pairs = pair_predictions(published, trained.storage, dataset, store)
    assert pairs.rows.index.str.startswith("corrections/").sum() == validated
    assert pairs.gone == 0
