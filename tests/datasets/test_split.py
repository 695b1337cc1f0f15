"""Near-duplicates are on one side of a random split, and are noted for a given split."""

import io

import numpy as np
import pytest
from conftest import encoded
from labelled_folders import pets
from PIL import Image

from visionflows.datasets.file_table import build_table
from visionflows.datasets.split import split_randomly
from visionflows.datasets.table_notes import table_notes


def scene(seed: int) -> Image.Image:
    """An image of smooth patches that resembles no other seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(colours).resize((240, 180), Image.Resampling.BICUBIC)


def smaller(image: Image.Image) -> Image.Image:
    data = encoded(image.resize((120, 90)), quality=50)
    return Image.open(io.BytesIO(data))


@pytest.fixture
def photos(tmp_path):
    """20 cats and 20 dogs in folders, without near-duplicates."""
    for at in range(40):
        folder = tmp_path / "photos" / ("cat", "dog")[at % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(at).save(folder / f"{at:02}.png")
    return tmp_path / "photos"


def sides(table) -> dict[str, bool]:
    return dict(zip(table.path, table.is_valid, strict=True))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_near_duplicates_are_on_one_side_and_no_other_image_moves(photos, seed):
    before = sides(build_table(photos, "folder", seed=seed))
    made = {f"cat/{at:02}": f"cat/{at:02}-{copy}.jpg" for at in (0, 2, 4, 6, 8) for copy in "a"}
    for path, copy in made.items():
        smaller(Image.open(photos / f"{path}.png")).save(photos / copy)
    table = build_table(photos, "folder", seed=seed)
    after = sides(table)
    assert all(after[f"{path}.png"] == after[copy] for path, copy in made.items())
    # Five more cats do not move any dog.
    assert all(after[path] == side for path, side in before.items() if path.startswith("dog"))
    (note,) = table_notes(table)
    assert note.startswith("near-duplicates: 10 images in 5 groups, cat/")


def drawn(labels: dict[str, str], groups: list[list[str]], seed: int = 1) -> set[str]:
    import pandas as pd

    usable = pd.DataFrame({"sha256": labels.keys(), "label": labels.values()})
    return split_randomly(usable, 0.25, seed, groups)


LABELS = {f"{at:02}": ("cat", "dog")[at % 2] for at in range(40)}


@pytest.mark.parametrize("seed", range(20))
def test_a_group_follows_one_of_its_images(seed):
    group = ["03", "08"]
    separate, grouped = drawn(LABELS, [], seed), drawn(LABELS, [group], seed)
    assert grouped - set(group) == separate - set(group)
    assert grouped & set(group) == (set(group) if "03" in separate else set())


def test_a_group_larger_than_half_of_the_validation_images_is_in_training():
    """For example frames of one camera: the validation set would be one image."""
    group = [f"{at:02}" for at in range(1, 21, 2)]
    without_group = [set(group) & drawn(LABELS, [], seed) for seed in range(20)]
    assert any("01" in separate for separate in without_group)
    assert not any(set(group) & drawn(LABELS, [group], seed) for seed in range(20))


def test_a_class_that_is_one_group_is_split_as_if_its_images_were_different():
    cats = [sha256 for sha256, label in LABELS.items() if label == "cat"]
    dogs = ["01", "03", "05"]
    separate, grouped = drawn(LABELS, []), drawn(LABELS, [cats, dogs])
    assert grouped & set(cats) == separate & set(cats)
    assert len(grouped & set(dogs)) in (0, 3)


def test_near_duplicates_of_bytes_with_two_labels_stay_in_training():
    import pandas as pd

    twice = pd.DataFrame({"sha256": [*LABELS, "03"], "label": [*LABELS.values(), "cat"]})
    for seed in range(10):
        assert not split_randomly(twice, 0.25, seed, [["00", "01", "03"]]) & {"00", "01", "03"}


def test_near_duplicates_under_two_labels_are_noted(photos):
    smaller(scene(0)).save(photos / "dog" / "as-cat.jpg")
    notes = table_notes(build_table(photos, "folder"))
    assert notes[1:] == [
        "near-duplicates under different labels: 1 group, cat/00.png (cat) ≈ dog/as-cat.jpg (dog)"
    ] or notes[1:] == [
        "near-duplicates under different labels: 1 group, dog/as-cat.jpg (dog) ≈ cat/00.png (cat)"
    ]


def test_near_duplicates_across_a_given_split_stay_and_are_noted(photos, tmp_path):
    smaller(scene(0)).save(photos / "cat" / "copy.jpg")
    lines = ["path,label,is_valid", "cat/copy.jpg,cat,1"]
    lines += [f"cat/{at:02}.png,cat,{at // 10 % 2}" for at in range(0, 40, 2)]
    lines += [f"dog/{at:02}.png,dog,{at // 10 % 2}" for at in range(1, 40, 2)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    table = build_table(photos, f"csv:{tmp_path}/labels.csv")
    assert (sides(table)["cat/copy.jpg"], sides(table)["cat/00.png"]) == (True, False)
    across = [note for note in table_notes(table) if "in training and in validation" in note]
    assert len(across) == 1
    assert "1 group" in across[0]


def test_an_image_of_one_colour_has_no_near_duplicates(tmp_path):
    pets(tmp_path)
    for at in range(6):
        Image.new("RGB", (40 + at, 40), (at, 0, 0)).save(tmp_path / "cat" / f"flat{at}.png")
    table = build_table(tmp_path, "folder")
    flat = table.path.str.contains("flat")
    assert (table.signature[flat] == "").all()
    assert table.signature[~flat].str.len().eq(152).all()
    assert table_notes(table) == []
