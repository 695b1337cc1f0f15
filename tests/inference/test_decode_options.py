"""A model sees files as it was trained on them: white or dropped ground, whole or scaled."""

import dataclasses

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.images.decode_options import BEFORE, DecodeOptions
from visionflows.images.open import pixels
from visionflows.inference import make_engine
from visionflows.inference.engine import EngineSettings
from visionflows.models.artifact import load
from visionflows.models.registry import find
from visionflows.scoring.job import is_consistent
from visionflows.scoring.local_run import LocalRun
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage.local import LocalStorage

TODAY = {"transparency": "white", "depth": "declared", "decode": "scaled"}


@pytest.fixture
def model(trained):
    """A bundle from before model.json said any of it."""
    model = load(find("shapes", trained.store))
    assert not TODAY.keys() & model.info.as_dict().keys()
    return model


@pytest.fixture
def today(model):
    """The same, as a bundle of today says it."""
    return dataclasses.replace(model, info=model.info.model_copy(update=TODAY))


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
    assert decoded.good == 2
    return decoded.pixels[:2]


def expected(inbox: LocalStorage, decode_options: DecodeOptions) -> np.ndarray:
    files = (inbox.read(name) for name in ("logo.png", "photo.jpg"))
    return np.stack([pixels(file, 32, "crop", decode_options=decode_options) for file in files])


def test_a_bundle_from_before_keeps_what_it_was_trained_with(model, inbox):
    np.testing.assert_array_equal(shown(model, inbox), expected(inbox, BEFORE))
    assert shown(model, inbox)[0].max() == 60


def test_a_bundle_of_today_sees_white_and_scaled(today, inbox):
    scaled = shown(today, inbox)
    np.testing.assert_array_equal(scaled, expected(inbox, DecodeOptions(side=32)))
    assert scaled[0].max() == 255
    whole = shown(today, inbox, decode="full")
    np.testing.assert_array_equal(whole, expected(inbox, DecodeOptions()))
    assert (whole[1] != scaled[1]).any()


def test_decoding_that_was_asked_for_is_part_of_what_a_run_is(model, today, inbox, tmp_path):
    def job(model, **settings):
        settings = ScoreSettings(**settings)
        run = LocalRun(str(inbox), str(tmp_path / "out"), make_engine(model, settings), settings)
        run.preview()
        assert is_consistent(run.job.as_plan())
        return run.job

    plan = job(model).as_plan()
    assert "decode" not in plan.as_dict()["settings"]  # rows of before hold
    assert job(model, decode="full") == job(model)
    assert job(model, decode="scaled").as_plan().settings.decode == "scaled"
    assert job(model, decode="scaled").rows_hold(plan) == "decode changed"
    assert job(today, decode="scaled") == job(today)
    assert job(today, decode="full").settings.decode == "full"
