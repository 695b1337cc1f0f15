"""The selection part: which training images choose between candidates."""

import numpy as np
import pandas as pd
import pytest

from visionflows.images.near_duplicates import BYTES
from visionflows.training.selection import MAX_IMAGES, Candidate, Selection, split_for_selection


def table(counts: dict[str, int], valid: int = 4) -> pd.DataFrame:
    """A file table with so many usable images of each class, the first ones to validate on."""
    rng = np.random.default_rng(0)
    rows = [
        {"path": f"{label}/{at}.png", "label": label, "is_valid": at < valid}
        for label, count in counts.items()
        for at in range(count)
    ]
    found = pd.DataFrame(rows).assign(status="ok", group="")
    found["sha256"] = [f"{at:064x}" for at in range(len(found))]
    found["signature"] = [rng.bytes(BYTES).hex() for _ in rows]
    return found


def test_a_fifth_of_every_class_is_held_out_and_no_validation_image():
    files = table({"cat": 54, "dog": 104})
    parts = split_for_selection(files, seed=1)
    assert not set(parts.path) & set(files.path[files.is_valid])
    shares = parts.groupby("label").is_valid.agg(["sum", "size"])
    assert shares["sum"].to_dict() == {"cat": 10, "dog": 20}
    assert shares["size"].to_dict() == {"cat": 50, "dog": 100}


def test_near_duplicates_are_on_one_side():
    files = table({"cat": 54, "dog": 54})
    burst = files.index[10:30]
    files.loc[burst, "signature"] = files.signature[10]
    parts = split_for_selection(files, seed=1)
    assert parts[parts.path.isin(files.path[burst])].is_valid.nunique() == 1


def test_groups_are_on_one_side():
    files = table({"cat": 54, "dog": 54})
    files["group"] = [f"camera {at % 10}" for at in range(len(files))]
    parts = split_for_selection(files, seed=1)
    assert parts.groupby("group").is_valid.nunique().eq(1).all()
    assert parts.groupby("label").is_valid.sum().between(8, 12).all()


def test_training_images_of_one_group_are_separated_and_the_log_says_so(caplog):
    files = table({"cat": 54, "dog": 54}).assign(group="camera")
    assert split_for_selection(files, seed=1).is_valid.sum() == 20
    assert "selection images share groups with training images" in caplog.text


def test_of_one_image_a_class_none_is_held_out():
    assert not split_for_selection(table({"cat": 5, "dog": 5}), seed=1).is_valid.any()


def test_another_seed_draws_others_and_the_same_seed_the_same():
    files = table({"cat": 54, "dog": 54})
    one, again, other = (split_for_selection(files, seed) for seed in (1, 1, 2))
    assert one.equals(again)
    assert not one.is_valid.equals(other.is_valid)


def test_a_class_with_one_image_is_only_trained_on():
    parts = split_for_selection(table({"cat": 54, "dog": 5}), seed=1)
    assert not parts[parts.label == "dog"].is_valid.any()


def test_many_images_give_a_bounded_selection_part():
    files = table({"cat": 3 * MAX_IMAGES, "dog": 3 * MAX_IMAGES})
    parts = split_for_selection(files, seed=1)
    assert 0.8 * MAX_IMAGES < parts.is_valid.sum() < 1.2 * MAX_IMAGES


def test_unusable_rows_are_left_out():
    files = table({"cat": 54, "dog": 54})
    files.loc[20:30, "status"] = "unreadable"
    assert set(split_for_selection(files, seed=1).status) == {"ok"}


def candidate(name: str, error: float, balanced: float, loss: float) -> Candidate:
    metrics = {"error_rate": error, "balanced_accuracy": balanced, "macro_f1": balanced}
    return Candidate(name, {**metrics, "log_loss": loss})


@pytest.mark.parametrize(
    "metric, best", [("error_rate", "epoch 2"), ("balanced_accuracy", "epoch 1")]
)
def test_the_metric_decides_and_the_log_loss_breaks_ties(metric, best):
    candidates = [
        candidate("linear probe", 0.10, 0.80, 0.1),
        candidate("epoch 1", 0.08, 0.90, 0.5),
        candidate("epoch 2", 0.05, 0.85, 0.3),
        candidate("epoch 3", 0.05, 0.85, 0.4),
    ]
    selection = Selection(metric, 100, candidates)
    assert selection.best.name == best
    assert selection.as_dict()["published"] == best


def test_the_probe_wins_a_tie():
    candidates = [candidate("linear probe", 0.05, 0.9, 0.5), candidate("epoch 1", 0.05, 0.9, 0.1)]
    assert Selection("error_rate", 100, candidates).best.name == "linear probe"
