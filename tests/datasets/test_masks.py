"""Segmentation masks are recognized by their folder, a photo of the same name, and few colours."""

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.datasets.file_table import build_table
from visionflows.datasets.masks import MASK, find_masks
from visionflows.datasets.table_notes import table_notes
from visionflows.errors import TableError
from visionflows.storage import open_storage

NAMES = ["Abyssinian_1", "Abyssinian_2", "american_bulldog_1", "american_bulldog_2", "Bombay_3"]


def write(path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def mask(seed: int, mode: str = "L", colours: int = 3) -> Image.Image:
    """An image of few values, like a segmentation mask."""
    draws = np.random.default_rng(seed).integers(1, colours + 1, (8, 8), np.uint8)
    return Image.fromarray(draws.repeat(6, 0).repeat(6, 1)).convert(mode)


@pytest.fixture
def pets(tmp_path):
    """The layout of fastai's PETS: photos, and a trimap of each."""
    for number, name in enumerate(NAMES):
        write(tmp_path / f"pets/images/{name}.jpg", picture(number))
        write(tmp_path / f"pets/annotations/trimaps/{name}.png", mask(number))
    return tmp_path / "pets"


@pytest.mark.parametrize("rule", ["uppercase", r"regex:^(.+)_\d+"])
def test_only_the_photos_of_pets_are_trained_on(pets, rule):
    table = build_table(pets, rule)
    usable = table[table.status == "ok"]
    assert usable.path.str.startswith("images/").all()
    assert len(usable) == 5
    assert table[table.status != "ok"].error.unique().tolist() == [MASK]
    assert table.path.is_monotonic_increasing
    (line,) = [line for line in table_notes(table) if MASK in line]
    assert line.startswith("left out as unlabelled: 5, annotations/trimaps/Abyssinian_1.png")


def test_images_named_in_a_csv_are_used(pets):
    (pets / "labels.csv").write_text(
        "path,label\n" + "".join(f"images/{name}.jpg,{name[0]}\n" for name in NAMES[1:4] * 1)
    )
    assert (build_table(pets, f"csv:{pets}/labels.csv").status == "ok").sum() == 3


@pytest.mark.parametrize(
    "folder, end, mode",
    [
        ("SegmentationClass", ".png", "P"),
        ("train_masks", "_mask.gif", "P"),
        ("labels", "_L.png", "RGB"),
        ("Ground Truth", ".bmp", "1"),
        ("gtFine/berlin", ".tif", "I;16"),
    ],
)
def test_masks_of_other_layouts_are_found(tmp_path, folder, end, mode):
    for number, name in enumerate(NAMES):
        write(tmp_path / f"JPEGImages/{name}.jpg", picture(number))
        write(tmp_path / folder / f"{name}{end}", mask(number, mode))
    paths = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")]
    found = find_masks(paths, open_storage(tmp_path))
    assert {path.partition("/")[0] for path in found} == {folder.partition("/")[0]}
    assert len(found) == 5


def test_photos_with_equal_names_are_not_masks(tmp_path):
    """Two classes with the same file names, such as people with and without a mask."""
    for number in range(6):
        write(tmp_path / f"with_mask/{number}.png", picture(number))
        write(tmp_path / f"without_mask/{number}.png", picture(10 + number))
        write(tmp_path / f"labels/{number}.png", picture(20 + number))
        write(tmp_path / f"no gt/{number}.png", picture(30 + number).convert("L"))
        write(tmp_path / f"other/{number}.png", picture(40 + number))
    table = build_table(tmp_path, "folder")
    assert (table.status == "ok").all()


def test_drawings_without_a_photo_beside_them_are_classes(tmp_path):
    for number in range(6):
        write(tmp_path / f"annotations/{number}.png", mask(number))
        write(tmp_path / f"drawings/d{number}.png", mask(10 + number))
    assert (build_table(tmp_path, "folder").status == "ok").all()


@pytest.mark.parametrize("name", ["label", "mask", "GT"])
def test_a_class_of_black_and_white_scans_is_a_class(tmp_path, name):
    """Numbered like its siblings, it looks like masks of them."""
    for number in range(6):
        for kind in (name, "invoice", "letter"):
            write(tmp_path / f"{kind}/{number}.png", mask(number + 10 * len(kind)))
    assert {*build_table(tmp_path, "folder").label} == {name, "invoice", "letter"}


def test_a_folder_of_masks_or_a_class_is_asked_for(tmp_path):
    for number in range(6):
        write(tmp_path / f"cat/{number}.png", picture(number))
        write(tmp_path / f"dog/{number}.png", picture(10 + number))
        write(tmp_path / f"mask/{number}.png", mask(number))
    with pytest.raises(TableError, match=r"mask may be a class, or hold the masks .*; rename it"):
        build_table(tmp_path, "folder")


def test_masks_of_each_city_are_not_asked_for(tmp_path):
    for number, city in enumerate(["berlin", "ulm"]):
        for at in (number, number + 2):
            write(tmp_path / f"leftImg8bit/{city}/{city}_{at}.png", picture(at))
            write(tmp_path / f"gtFine/{city}/{city}_{at}_gt.png", mask(at))
    table = build_table(tmp_path, "folder")
    assert table.label[table.path.str.startswith("gtFine")].tolist() == [""] * 4


def test_a_file_of_a_terabyte_is_no_mask_and_is_not_read(tmp_path):
    write(tmp_path / "images/a.jpg", picture(1))
    (tmp_path / "masks").mkdir()
    with open(tmp_path / "masks/a.png", "wb") as file:
        file.truncate(1 << 40)
    assert find_masks(["images/a.jpg", "masks/a.png"], open_storage(tmp_path)) == set()


def test_an_unreadable_image_does_not_count_as_a_mask(tmp_path):
    paths = ["images/a.jpg", "masks/a.png"]
    (tmp_path / "masks").mkdir()
    assert find_masks(paths, open_storage(tmp_path)) == set()
    (tmp_path / "masks/a.png").write_bytes(encoded(picture(1))[:100])
    assert find_masks(paths, open_storage(tmp_path)) == set()
