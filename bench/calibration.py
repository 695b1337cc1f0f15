"""Measure calibrated confidence and --min-precision on held-out photos.

    python bench/calibration.py ../shared/data/cats-dogs.tgz --arch tf_efficientnet_lite0 \\
        --pretrained ../shared/data/tf_efficientnet_lite0.safetensors

For each seed, a model is trained on half of the photos, and the other half is scored twice by the
command line: calibrated with --min-precision, and with --raw. The result has both expected
calibration errors, the accuracy of the rows without review, and the share of rows to review beside
the share that training expected.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from halves import halves, labels_of, options, rows_of, training, visionflows, write_with_settings

from visionflows.datasets.fetch import fetch
from visionflows.evaluation.calibration import expected_calibration_error, reliability_bins


def main() -> None:
    parser = options(__doc__, epochs="2")
    parser.add_argument("--valid-pct", default="0.4")
    parser.add_argument("--min-precision", default="0.98")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--store", help="keep the models in this store; by default they are deleted"
    )
    parsed = parser.parse_args()
    results = [_result(seed, parsed) for seed in parsed.seeds]
    write_with_settings(parsed, {"seeds": results}, "calibration")


def _result(seed: int, parsed: argparse.Namespace) -> dict:
    """Return the result for one seed."""
    with tempfile.TemporaryDirectory() as folder:
        work, store = Path(folder), parsed.store or f"{folder}/store"
        photos = fetch(parsed.dataset, store).folder
        halves(photos, work, seed)
        arguments = training(parsed, work / "learnt", "half", seed)
        arguments += ["--labels", parsed.labels, "--valid-pct", parsed.valid_pct]
        visionflows("train", *arguments, "--store", store)
        score = ("score", work / "other", "--model", "half", "--store", store, "--output")
        visionflows(*score, work / "out", "--min-precision", parsed.min_precision)
        visionflows(*score, work / "raw", "--raw")
        result = compare(work, parsed.labels)
    print(seed, json.dumps(result), flush=True)
    return {"seed": seed, **result}


def compare(work: Path, labels: str) -> dict:
    """Compare both scoring results of the other half with its true labels."""
    rows, raw = (_ok_rows(work / name / "predictions.csv") for name in ("out", "raw"))
    run = json.loads((work / "out/run.json").read_text())
    truth = labels_of(work / "other", labels)
    correct = np.array([row["label"] == truth[row["path"]] for row in rows])
    review = np.array([row["review"] == "True" for row in rows])
    return {
        "photos": len(rows),
        "accuracy": round(float(correct.mean()), 4),
        "ece_raw": round(_error(raw, truth), 4),
        "ece": round(_error(rows, truth), 4),
        "unreviewed": int((~review).sum()),
        "unreviewed_right": round(float(correct[~review].mean()), 4) if not review.all() else None,
        "left_to_people": round(float(review.mean()), 4),
        "left_told": round(run["review"]["expected_share"], 4),
        "wrong_caught": f"{int((review & ~correct).sum())} of {int((~correct).sum())}",
    }


def _ok_rows(path: Path) -> list[dict]:
    return [row for row in rows_of(path) if row["status"] == "ok"]


def _error(rows: list[dict], truth: dict[str, str]) -> float:
    classes = [name[2:] for name in rows[0] if name.startswith("p_")]
    probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    targets = np.array([classes.index(truth[row["path"]]) for row in rows])
    correct = probabilities.argmax(1) == targets
    return expected_calibration_error(reliability_bins(probabilities.max(1), correct))


if __name__ == "__main__":
    main()
