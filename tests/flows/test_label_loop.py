"""A round of the loop with several labels a photo: train, correct, retrain, promote."""

from pathlib import Path

import pandas as pd
import pytest
from several_labels import OPTIONS, SOURCE, write_pairs

import visionflows as vf
from flows.retrain import retrain
from visionflows.hashing import sha256_of
from visionflows.label_sets import split_labels
from visionflows.review.corrections import Correction, format_corrections
from visionflows.training.settings import TrainSettings


def corrected(file: Path, label: str, answer: str = "other") -> Correction:
    return Correction(file.name, sha256_of(file.read_bytes()), label, answer, root=str(file.parent))


@pytest.mark.slow
def test_a_round_of_corrections_leads_to_a_promoted_model(tmp_path):
    """A few photos with wrong labels make a weak production; corrections make it better."""
    data, store = write_pairs(tmp_path / "data", each=6), tmp_path / "store"
    labels = pd.read_csv(data / "labels.csv", keep_default_na=False)
    names = labels.label.str.replace("stripes", "circle").map(split_labels)
    names[:16] = labels.label[:16].map(split_labels)  # of each class some are right
    labels.assign(label=names.map(lambda one: str([*dict.fromkeys(one)]))).to_csv(
        data / "labels.csv", index=False
    )
    options = {"store": store, "keep": "best", **SOURCE, **OPTIONS}
    first = vf.train(data, "pairs", **options)
    corrections = tmp_path / "corrections.csv"
    corrections.write_bytes(
        format_corrections(
            corrected(data / row.path, row.label, "other" if row.label else "empty")
            for row in labels.itertuples()
        )
    )
    assert first.info.multi_label
    found = retrain.call_without_server(
        *(str(data), "pairs", SOURCE["labels"]),
        store=str(store),
        corrections=(str(corrections),),
        corrections_in_validation=True,
        settings=TrainSettings(keep="best", **OPTIONS),
    )
    assert found["promoted"], found["why"]
