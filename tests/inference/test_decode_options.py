"""A model decodes images as in training, full or scaled, unless a setting overrides that."""

import dataclasses
import json

import icc_files
import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.images.decode_options import DecodeOptions
from visionflows.images.open import pixels
from visionflows.inference import make_engine
from visionflows.inference.engine import EngineSettings
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.scoring.job import Job
from visionflows.scoring.local_run import LocalRun
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage.local import LocalStorage


@pytest.fixture
def model(trained):
    """A model trained on fully decoded images."""
    return load_model(find_model("shapes", trained.store))


@pytest.fixture
def scaled(model):
    """The same model, as if trained on downscaled images."""
    return dataclasses.replace(model, info=model.info.model_copy(update={"decode": "scaled"}))


@pytest.fixture
def inbox(tmp_path) -> LocalStorage:
    logo = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    logo.paste((60, 60, 60, 255), (100, 50, 200, 150))
    (tmp_path / "logo.png").write_bytes(encoded(logo, "PNG"))
    (tmp_path / "photo.jpg").write_bytes(encoded(picture(size=(640, 480)), "JPEG"))
    return LocalStorage(tmp_path)


def shown(model, inbox: LocalStorage, **settings) -> np.ndarray:
    engine = make_engine(model, EngineSettings(**settings))
    decoded = engine.decoder(inbox, ["logo.png", "photo.jpg"])
    assert decoded.ok_count == 2
    return decoded.pixels[:2]


def expected(inbox: LocalStorage, decode_options: DecodeOptions) -> np.ndarray:
    files = (inbox.read(name) for name in ("logo.png", "photo.jpg"))
    return np.stack([pixels(file, 32, "crop", decode_options=decode_options) for file in files])


def test_a_model_sees_images_as_it_was_trained_on_them(model, inbox):
    np.testing.assert_array_equal(shown(model, inbox), expected(inbox, DecodeOptions()))
    assert shown(model, inbox)[0].max() == 255


def test_a_model_converts_colours_as_it_was_trained(model, tmp_path):
    photo = Image.new("RGB", (64, 48), (205, 25, 25))
    (tmp_path / "1.jpg").write_bytes(encoded(photo, icc_profile=icc_files.SWAPPED))
    for conversion, is_blue in (("convert", True), ("ignore", False)):
        info = model.info.model_copy(update={"color_profiles": conversion})
        engine = make_engine(dataclasses.replace(model, info=info), EngineSettings())
        seen = engine.decoder(LocalStorage(tmp_path), ["1.jpg"]).pixels[0]
        options = DecodeOptions(color_profiles=conversion)
        trained = pixels(tmp_path / "1.jpg", 32, "crop", decode_options=options)
        np.testing.assert_array_equal(seen, trained)
        assert (seen[..., 2].mean() > seen[..., 0].mean()) == is_blue


def test_the_setting_overrides_how_the_model_was_trained(scaled, inbox):
    small = shown(scaled, inbox)
    np.testing.assert_array_equal(small, expected(inbox, DecodeOptions(side=32)))
    full = shown(scaled, inbox, decode="full")
    np.testing.assert_array_equal(full, expected(inbox, DecodeOptions()))
    assert (full[1] != small[1]).any()


def test_an_overridden_decoding_is_part_of_the_job(model, scaled, inbox, tmp_path):
    def job(model, **settings):
        settings = ScoreSettings(**settings)
        run = LocalRun(str(inbox), str(tmp_path / "out"), make_engine(model, settings), settings)
        run.preview()
        assert Job.read(run.job.plan()).digest == run.job.digest
        return run.job

    assert "decode" not in json.loads(job(model).plan())["settings"]
    assert job(model, decode="full").digest == job(model).digest
    assert Job.read(job(model, decode="scaled").plan()).settings.decode == "scaled"
    assert job(model, decode="scaled").row_difference(job(model)) == "decode changed"
    assert job(scaled, decode="scaled").digest == job(scaled).digest
    assert job(scaled, decode="full").settings.decode == "full"
