"""The probabilities and columns of a row, compared with fastai."""

import csv
import shutil
import tarfile

import numpy as np
from conftest import CLASSES, encoded, shape, write_shapes
from PIL import ExifTags, Image
from scored_runs import fastai_probabilities, probabilities, rows_of

from visionflows.images.exif import COLUMNS
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings


def test_probabilities_are_fastais_on_generated_images(trained, where, inbox, tmp_path):
    score_folder(where(inbox), "shapes", where(tmp_path), where(trained.store))
    rows = rows_of(tmp_path)
    assert len(rows) == 90
    assert {row["status"] for row in rows} == {"ok"}
    expected = fastai_probabilities(trained.export, [inbox / row["path"] for row in rows])
    assert np.abs(probabilities(rows) - expected).max() < 1e-4
    vocabulary = np.array(CLASSES)
    assert [row["label"] for row in rows] == list(vocabulary[expected.argmax(1)])


def test_probabilities_are_fastais_on_real_photos(trained, where, shared_data, tmp_path):
    with tarfile.open(shared_data / "inbox.tgz") as archive:
        members = [member for member in archive.getmembers() if member.isfile()][:150]
        archive.extractall(tmp_path, members=members, filter="data")
    score_folder(where(tmp_path / "inbox"), "shapes", where(tmp_path / "out"), where(trained.store))
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 150
    expected = fastai_probabilities(
        trained.export, [tmp_path / "inbox" / row["path"] for row in rows]
    )
    assert np.abs(probabilities(rows) - expected).max() < 1e-4


def test_rows_do_not_depend_on_how_they_are_computed(trained, inbox, tmp_path):
    score_folder(str(inbox), "shapes", str(tmp_path / "a"), trained.store)
    reference = probabilities(rows_of(tmp_path / "a"))
    for number, settings in enumerate(
        [
            ScoreSettings(batch_size=1, workers=1),
            ScoreSettings(batch_size=7, workers=3, shard_size=13),
            ScoreSettings(batch_size=64, workers=2, shard_size=1000),
        ]
    ):
        output = tmp_path / str(number)
        score_folder(str(inbox), "shapes", str(output), trained.store, settings)
        assert np.abs(probabilities(rows_of(output)) - reference).max() < 1e-5


def test_bytes_do_not_depend_on_shards_and_neighbours(trained, where, inbox, tmp_path):
    score_folder(where(inbox), "shapes", where(tmp_path / "a"), where(trained.store))
    score_folder(
        where(inbox),
        "shapes",
        where(tmp_path / "b"),
        where(trained.store),
        ScoreSettings(shard_size=7, workers=3),
    )
    whole = (tmp_path / "a/predictions.csv").read_bytes()
    assert (tmp_path / "b/predictions.csv").read_bytes() == whole
    part = tmp_path / "few"
    shutil.copytree(inbox / "odd", part / "odd")
    score_folder(where(part), "shapes", where(tmp_path / "c"), where(trained.store))
    few = (tmp_path / "c/predictions.csv").read_bytes().splitlines()
    assert few[1:] == [line for line in whole.splitlines() if line.startswith(b"odd/")]


def test_shapes_get_their_labels(trained, tmp_path):
    for seed in range(5000, 5010):
        shape("stripes", seed).save(tmp_path / f"{seed}.png")
    score_folder(str(tmp_path), "shapes", str(tmp_path / "out"), trained.store)
    labels = [row["label"] for row in rows_of(tmp_path / "out")]
    assert labels.count("stripes") >= 8


def test_top_adds_the_best_classes_in_order(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=3)
    (folder / "x.png").write_bytes(b"")
    settings = ScoreSettings(top=2)
    score_folder(where(folder), "shapes", where(tmp_path / "out"), where(trained.store), settings)
    *good, bad = rows_of(tmp_path / "out")
    assert (bad["top_1"], bad["top_2_p"]) == ("", "")
    for row in good:
        shares = sorted((row[f"p_{name}"] for name in CLASSES), reverse=True)
        assert [row["top_1_p"], row["top_2_p"]] == shares[:2]
        assert (row["top_1"], row["top_1_p"]) == (row["label"], row["confidence"])
        assert row["top_2"] != row["top_1"]
        assert row[f"p_{row['top_2']}"] == row["top_2_p"]  # two of six decimals may be equal


def test_top_is_limited_to_the_number_of_classes(outlier_store, tmp_path):
    folder = write_shapes(tmp_path / "in", each=3)
    settings = ScoreSettings(top=9, exif=True)
    where = str(folder), "outlier-model", str(tmp_path / "out"), outlier_store
    assert score_folder(*where, settings)["timings"]["scored"] == 9
    with (tmp_path / "out/predictions.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert [name for name in header if name.startswith("top_")][-2:] == ["top_3", "top_3_p"]
    assert {len(row) for row in rows} == {len(header)}
    assert {row[header.index("outlier")] for row in rows} <= {"True", "False"}
    assert score_folder(*where, settings)["timings"]["scored"] == 0


def test_exif_columns_are_added_on_request(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "EOS, R5"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:01:31 18:05:09"
    (folder / "a.jpg").write_bytes(encoded(shape("circle", 1), exif=exif))
    (folder / "bad.jpg").write_bytes(b"no picture")
    arguments = where(folder), "shapes", where(tmp_path / "out"), where(trained.store)
    score_folder(*arguments)
    plain = rows_of(tmp_path / "out")
    score_folder(*arguments, ScoreSettings(exif=True, only_new=True))
    rows = rows_of(tmp_path / "out")
    exif = [[row.pop(name) for name in COLUMNS] for row in rows]
    assert rows == plain  # and next to them:
    assert exif[:2] == [["2026-01-31T18:05:09", "EOS, R5", "", "", "40", "40"], [""] * 6]
    assert exif[2:] == [["", "", "", "", "40", "40"]] * 3
    again = score_folder(*arguments, ScoreSettings(exif=True, only_new=True))
    assert again["timings"]["scored"] == 0
