"""Bursts on both sides of a split are noted, by the EXIF data of the photos."""

from pathlib import Path

import pytest
from conftest import encoded, picture
from labelled_folders import make
from PIL import Image
from PIL.ExifTags import IFD, Base

from visionflows.datasets.file_table import build_table
from visionflows.datasets.table_notes import table_notes


def photo(file: Path, seed: int, taken: str, serial: str = "1") -> None:
    exif = Image.Exif()
    exif.update({Base.Make: "Canon", Base.Model: "Canon R5"} if serial else {})
    shot = {Base.DateTimeOriginal: taken, Base.BodySerialNumber: serial} if taken else {}
    exif.get_ifd(IFD.Exif).update(shot)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(picture(seed, (12, 9)), exif=exif))


@pytest.mark.parametrize(
    "taken, serial, is_burst",
    [
        ("2026:05:01 12:01:00", "1", True),
        ("2026:05:01 12:01:01", "1", False),
        ("2026:05:01 12:00:30", "2", False),
        ("2026:05:01 12:00:30", "", False),
        ("", "1", False),
    ],
)
def test_a_burst_on_both_sides_is_noted(tmp_path, taken, serial, is_burst):
    photo(tmp_path / "train/cat/a.jpg", 1, "2026:05:01 12:00:00")
    photo(tmp_path / "val/cat/b.jpg", 2, taken, serial)
    photo(tmp_path / "train/dog/c.jpg", 3, "2026:06:01 12:00:00")
    photo(tmp_path / "train/dog/d.jpg", 4, "2026:06:01 12:00:01")
    make(tmp_path, "val/dog/e.png")
    notes = [note for note in table_notes(build_table(tmp_path, "folder")) if "camera" in note]
    assert notes == is_burst * [
        "series of photos of one camera, at most a minute from one to the next, in training and in "
        "validation: 2 images in 1 burst, train/cat/a.jpg (cat) ≈ val/cat/b.jpg (cat); the error "
        "rate may be too low: keep each burst on one side, with --group or in the split that you "
        "give"
    ]
