"""Label issues: label_issues.csv and the report."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from model_infos import model_info
from PIL import Image

from visionflows.datasets.file_table import build_table
from visionflows.models.artifact import Model
from visionflows.models.schema import ModelInfo
from visionflows.reports.training import render_training_report
from visionflows.storage.local import LocalStorage
from visionflows.training.evidence.label_issues import COLUMNS, find_label_issues, read_label_issues

BRIGHTNESS = {"dark": 30, "grey": 120, "light": 220}
WRONG = {"dark/as-light.png": "light", "light/as-grey.png": "grey", "grey/as-dark.png": "dark"}


def noise(seed: int, brightness: int) -> Image.Image:
    draws = np.random.default_rng(seed)
    return Image.fromarray((brightness + draws.integers(-25, 26, (40, 40, 3))).astype(np.uint8))


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Three classes of different brightness, with one wrong label in each."""
    for at, (name, brightness) in enumerate(BRIGHTNESS.items()):
        (tmp_path / "noise" / name).mkdir(parents=True)
        for seed in range(20):
            noise(100 * at + seed, brightness).save(tmp_path / "noise" / name / f"{seed:02}.png")
    for seed, (path, truth) in enumerate(WRONG.items()):
        noise(1000 + seed, BRIGHTNESS[truth]).save(tmp_path / "noise" / path)
    return tmp_path / "noise"


@pytest.fixture
def checkpoint_copy(trained, tmp_path) -> Path:
    """A copy of the checkpoint of `trained`, after evaluate."""
    return Path(shutil.copytree(trained.store.parent / "checkpoint", tmp_path / "checkpoint"))


def model_of(checkpoint: Path) -> Model:
    return Model(LocalStorage(checkpoint), model_info())


def rows_of(checkpoint: Path) -> list[dict[str, str]]:
    return list(
        csv.DictReader(io.StringIO((checkpoint / "label_issues.csv").read_text(), newline=""))
    )


def test_wrong_labels_are_listed_in_the_form_of_corrections(trained, checkpoint_copy, dataset):
    table = build_table(dataset, "folder")
    found = find_label_issues(model_of(checkpoint_copy), table, dataset)
    rows = rows_of(checkpoint_copy)
    assert tuple(rows[0]) == COLUMNS
    assert found == {"images": 63, "found": len(rows), "features": "fine-tuned"}
    named = {row["path"]: row for row in rows}
    assert named.keys() >= WRONG.keys()
    assert len(named) <= 6
    for path, truth in WRONG.items():
        row = named[path]
        assert (row["label"], row["was"]) == (truth, path.partition("/")[0])
        assert row["sha256"] == table.sha256[table.path == path].item()
    assert {row["why"] for row in rows} == {"label issue"}
    assert all(row["label"] != row["was"] for row in rows)
    worst = read_label_issues(checkpoint_copy)
    assert [issue.path for issue in worst] == [row["path"] for row in rows][:24]
    assert all(issue.picture.startswith(b"\xff\xd8") for issue in worst)
    info = ModelInfo.read((Path(trained.storage) / "model.json").read_bytes())
    page = render_training_report(info.updated(label_issues=found), {}, "", label_issues=worst)
    assert "Label issues" in page
    assert all(f'<span class="path">{issue.path}</span>' in page for issue in worst)


def test_the_same_bytes_are_examined_once(checkpoint_copy, dataset):
    for at in range(5):
        shutil.copy(dataset / "dark/01.png", dataset / f"dark/copy{at}.png")
    table = build_table(dataset, "folder")
    assert find_label_issues(model_of(checkpoint_copy), table, dataset)["images"] == 63


def test_a_checkpoint_without_the_file_has_no_label_issues(checkpoint_copy):
    assert read_label_issues(checkpoint_copy) == []


def test_classes_of_few_groups_have_no_label_issues(checkpoint_copy, dataset):
    """Folds of whole groups would leave none of the class to learn it from."""
    table = build_table(dataset, "folder", group=r"regex:(\d)\d\.png")
    assert find_label_issues(model_of(checkpoint_copy), table, dataset)["found"] == 0
