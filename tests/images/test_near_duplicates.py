"""Near-duplicates are found, and different images are not."""

import io
import tarfile
import time

import numpy as np
import pytest
from conftest import encoded, shape
from PIL import Image
from sklearn.datasets import load_digits

from visionflows.images.decode_options import DecodeOptions
from visionflows.images.near_duplicates import (
    BYTES,
    FIRST,
    FREQUENCIES,
    LOWEST,
    _candidates,
    first_duplicate,
    group_duplicates,
    signature,
    signature_array,
)
from visionflows.images.open import open_image


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """An image of smooth patches that resembles no other seed."""
    colours = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def cut(image: Image.Image, share: float) -> Image.Image:
    left, top = (round(side * share) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def saved(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, quality=quality))).convert("RGB")


COPIES = {
    "smaller": lambda image: image.resize((image.width // 2, image.height // 3)),
    "far smaller": lambda image: image.resize((80, 60), Image.Resampling.LANCZOS),
    "larger": lambda image: image.resize((2 * image.width, 2 * image.height)),
    "saved badly": lambda image: saved(image, 10),
    "cut": lambda image: cut(image, 0.01),
    "cut and saved": lambda image: saved(cut(image, 0.01).resize((200, 150)), 60),
}


def arrays(images) -> np.ndarray:
    return signature_array(signature(image).hex() for image in images)


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_and_other_images_are_not(copy):
    originals = [scene(seed) for seed in range(40)]
    found = first_duplicate(arrays([*originals, *map(COPIES[copy], originals)]))
    assert (found[:40] == -1).all()
    assert found[40:].tolist() == [*range(40)]


def test_downscaled_decoding_gives_the_same_signature():
    data = encoded(scene(1, (2400, 1800)), quality=90)
    whole, small = open_image(data), open_image(data, decode_options=DecodeOptions(side=128))
    assert small.width < whole.width
    assert first_duplicate(arrays([whole, small])).tolist() == [-1, 0]


@pytest.mark.parametrize("colour", ["black", "white", (90, 20, 160)])
def test_an_image_of_one_colour_has_no_near_duplicates(colour):
    flat = Image.new("RGB", (60, 40), colour)
    assert signature(flat) == b""
    assert first_duplicate(arrays([flat, flat, scene(1), flat, scene(1)])).tolist() == [-1] * 4 + [
        2
    ]


def test_the_same_shape_in_another_colour_is_not_a_duplicate():
    red, green, blue = scene(3).split()
    images = [Image.merge("RGB", bands) for bands in ((red, green, blue), (blue, green, red))]
    assert first_duplicate(arrays(images)).tolist() == [-1, -1]
    assert group_duplicates(arrays([shape("stripes", seed) for seed in range(50)])).tolist() == [
        *range(50)
    ]


def test_handwritten_digits_are_rarely_duplicates():
    digits = load_digits()
    greys = (Image.fromarray((grey * 15.9).astype(np.uint8)) for grey in digits.images)
    images = [grey.resize((32, 32), Image.Resampling.BICUBIC).convert("RGB") for grey in greys]
    found = group_duplicates(arrays(images))
    duplicates = found != np.arange(len(found))
    assert duplicates.sum() < 10
    assert (digits.target[found[duplicates]] == digits.target[duplicates]).all()


def test_photos_of_cats_and_dogs(shared_data):
    with tarfile.open(shared_data / "cats-dogs.tgz") as archive:
        names = [name for name in archive.getnames() if name.endswith(".jpg")][:120]
        photos = [open_image(archive.extractfile(name).read()) for name in names]
    many = [saved(cut(photo, 0.02).resize((200, 160)), 50) for photo in photos]
    found = first_duplicate(arrays([*photos, *many]))
    assert (found[:120] == -1).all()
    of_copies = found[120:]
    assert set(of_copies - np.arange(120)) <= {0, *(-1 - np.arange(120))}, "none of another photo"
    assert (of_copies >= 0).mean() > 0.93


def test_a_group_is_a_chain_of_near_duplicates():
    steps = [cut(scene(5, (900, 700)), share) for share in (0.0, 0.01, 0.02, 0.03, 0.04, 0.05)]
    array = arrays([scene(6), *steps])
    assert group_duplicates(array).tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert first_duplicate(array)[-1] not in (-1, 1), "the last is too far from the first"


def test_with_known_signatures_only_those_are_compared():
    array = arrays([scene(1), scene(1), scene(2), scene(1), scene(3), scene(3), scene(2)])
    assert first_duplicate(array, known=3).tolist() == [-1, -1, -1, 0, -1, -1, 2]
    assert first_duplicate(array).tolist() == [-1, 0, -1, 0, -1, 4, 2]


def test_invalid_signatures_are_ignored():
    assert signature_array(["", "abcd", "ff" * BYTES]).any(1).tolist() == [False, False, True]
    assert (
        first_duplicate(signature_array([])).tolist()
        == group_duplicates(signature_array([])).tolist()
        == []
    )


def test_frames_of_one_camera_are_compared_once():
    """They agree in each of 32 draws, in which the same pairs were compared."""
    draws = np.random.default_rng(2)
    array = draws.integers(0, 256, (3_000, BYTES), np.uint8)
    array[:, : FREQUENCIES * LOWEST // 8] = array[0, : FREQUENCIES * LOWEST // 8]
    pairs = [pair for each in _candidates(array, np.not_equal) for pair in zip(*each, strict=True)]
    assert len(pairs) < 1.05 * FIRST * len(array)
    assert len(pairs) == len({*pairs})


def test_thirty_thousand_images_with_one_large_group():
    draws = np.random.default_rng(1)
    array = draws.integers(0, 256, (30_000, BYTES), np.uint8)
    array[::2] = array[0]  # a camera that films a wall
    began = time.perf_counter()
    found = group_duplicates(array)
    assert (found[::2] == 0).all()
    assert (found[1::2] == np.arange(1, 30_000, 2)).all()
    assert first_duplicate(array)[2::2].max() == 0
    assert time.perf_counter() - began < 30
