"""The embedded digits: those of scikit-learn, reproducible, without a network connection."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from visionflows.datasets.fetch import Dataset, fetch
from visionflows.datasets.sources import write_digits
from visionflows.storage import open_storage


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Dataset:
    return fetch("digits", tmp_path_factory.mktemp("digits") / "store")


def test_digits_need_no_network(digits):
    from sklearn.datasets import load_digits

    original = load_digits()
    names = [entry.name for entry in open_storage(digits.folder).walk()]
    assert len(names) == 1797
    for index in (0, 900, 1796):
        label = original.target[index]
        with Image.open(digits.folder / f"digits/{label}/{label}_{index:04}.png") as image:
            assert (image.size, image.mode) == ((32, 32), "L")
            shrunk = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float) / 255 * 16
        assert np.abs(shrunk - original.images[index]).mean() < 1
    assert digits.source == digits.name == "digits"


def test_digits_are_the_same_bytes_each_time(digits, tmp_path):
    write_digits(tmp_path / "again.tgz")
    assert hashlib.sha256((tmp_path / "again.tgz").read_bytes()).hexdigest() == digits.sha256
