"""Images that look alike are on one side of a split that is drawn, and are told of one given."""

import io

import numpy as np
import pytest
from conftest import encoded
from labelled_folders import pets
from PIL import Image

from visionflows.datasets.file_table import build_table, table_notes
from visionflows.datasets.split import split_randomly


def scene(seed: int) -> Image.Image:
    """A picture of smooth patches, as few others look."""
    colours = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(colours).resize((240, 180), Image.Resampling.BICUBIC)


def smaller(image: Image.Image) -> Image.Image:
    data = encoded(image.resize((120, 90)), quality=50)
    return Image.open(io.BytesIO(data))


@pytest.fixture
def photos(tmp_path):
    """20 cats and 20 dogs in folders, no two alike."""
    for at in range(40):
        folder = tmp_path / "photos" / ("cat", "dog")[at % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(at).save(folder / f"{at:02}.png")
    return tmp_path / "photos"


def sides(table) -> dict[str, bool]:
    return dict(zip(table.path, table.is_valid, strict=True))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_look_alikes_are_on_one_side_and_no_other_image_moves(photos, seed):
    before = sides(build_table(photos, "folder", seed=seed))
    made = {f"cat/{at:02}": f"cat/{at:02}-{copy}.jpg" for at in (0, 2, 4, 6, 8) for copy in "a"}
    for path, copy in made.items():
        smaller(Image.open(photos / f"{path}.png")).save(photos / copy)
    table = build_table(photos, "folder", seed=seed)
    after = sides(table)
    assert all(after[f"{path}.png"] == after[copy] for path, copy in made.items())
    # Five more cats are five more lots: of the dogs none has moved.
    assert all(after[path] == side for path, side in before.items() if path.startswith("dog"))
    (note,) = table_notes(table)
    assert note.startswith("near-duplicates: 10 images in 5 groups, cat/")


def drawn(labels: dict[str, str], alike: list[list[str]], seed: int = 1) -> set[str]:
    import pandas as pd

    usable = pd.DataFrame({"sha256": labels.keys(), "label": labels.values()})
    return split_randomly(usable, 0.25, seed, alike)


LABELS = {f"{at:02}": ("cat", "dog")[at % 2] for at in range(40)}


@pytest.mark.parametrize("seed", range(20))
def test_a_group_follows_one_of_its_images_whatever_their_labels(seed):
    group = ["03", "08"]
    alone, together = drawn(LABELS, [], seed), drawn(LABELS, [group], seed)
    assert together - set(group) == alone - set(group)
    assert together & set(group) == (set(group) if "03" in alone else set())


def test_more_of_them_than_half_of_what_their_class_has_there_are_all_trained_on():
    """As the frames of one camera: they would make the class's validation one picture."""
    group = [f"{at:02}" for at in range(1, 21, 2)]
    drawn_alone = [set(group) & drawn(LABELS, [], seed) for seed in range(20)]
    assert any("01" in alone for alone in drawn_alone)
    assert not any(set(group) & drawn(LABELS, [group], seed) for seed in range(20))


def test_a_class_that_is_one_group_is_split_as_if_its_images_were_different():
    cats = [sha256 for sha256, label in LABELS.items() if label == "cat"]
    dogs = ["01", "03", "05"]
    alone, together = drawn(LABELS, []), drawn(LABELS, [cats, dogs])
    assert together & set(cats) == alone & set(cats)
    assert len(together & set(dogs)) in (0, 3)


def test_bytes_under_two_labels_keep_what_looks_like_them_in_training():
    import pandas as pd

    twice = pd.DataFrame({"sha256": [*LABELS, "03"], "label": [*LABELS.values(), "cat"]})
    for seed in range(10):
        assert not split_randomly(twice, 0.25, seed, [["00", "01", "03"]]) & {"00", "01", "03"}


def test_look_alikes_under_two_labels_are_told(photos):
    smaller(scene(0)).save(photos / "dog" / "as-cat.jpg")
    told = table_notes(build_table(photos, "folder"))
    assert told[1:] == [
        "near-duplicates under different labels: 1 group, cat/00.png (cat) ≈ dog/as-cat.jpg (dog)"
    ] or told[1:] == [
        "near-duplicates under different labels: 1 group, dog/as-cat.jpg (dog) ≈ cat/00.png (cat)"
    ]


def test_of_a_split_that_is_given_they_stay_and_are_told(photos, tmp_path):
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


def test_a_picture_of_one_colour_looks_like_no_other(tmp_path):
    pets(tmp_path)
    for at in range(6):
        Image.new("RGB", (40 + at, 40), (at, 0, 0)).save(tmp_path / "cat" / f"flat{at}.png")
    table = build_table(tmp_path, "folder")
    flat = table.path.str.contains("flat")
    assert (table.signature[flat] == "").all()
    assert table.signature[~flat].str.len().eq(152).all()
    assert table_notes(table) == []
