"""What calibrated confidence and --min-precision are worth on photos held out from everything.

    python bench/calibration.py ../shared/data/cats-dogs.tgz --arch tf_efficientnet_lite0 \\
        --pretrained ../shared/data/tf_efficientnet_lite0.safetensors

Of every seed a model is trained on half of the photos, and the other half is scored twice by the
command line: calibrated with --min-precision, and with --raw. Told are the expected calibration
errors of both, how many labels that were not left to people are right, and the share that was left,
against the one that was told beforehand.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from halves import halves, labels_of, options, rows_of, training, visionflows, written_with

from visionflows.datasets.fetch import fetch
from visionflows.evaluation.calibration import expected_calibration_error, reliability_bins


def main() -> None:
    parser = options(__doc__, epochs="2")
    parser.add_argument("--valid-pct", default="0.4")
    parser.add_argument("--min-precision", default="0.98")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--store", help="where the models stay; else they go")
    parsed = parser.parse_args()
    told = [_told(seed, parsed) for seed in parsed.seeds]
    written_with(parsed, {"seeds": told}, "calibration")


def _told(seed: int, parsed: argparse.Namespace) -> dict:
    """The figures of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        work, store = Path(folder), parsed.store or f"{folder}/store"
        photos = fetch(parsed.dataset, store).folder
        halves(photos, work, seed)
        words = training(parsed, work / "learnt", "half", seed)
        words += ["--labels", parsed.labels, "--valid-pct", parsed.valid_pct]
        visionflows("train", *words, "--store", store)
        scored = ("score", work / "other", "--model", "half", "--store", store, "--output")
        visionflows(*scored, work / "out", "--min-precision", parsed.min_precision)
        visionflows(*scored, work / "raw", "--raw")
        figures = compared(work, parsed.labels)
    print(seed, json.dumps(figures), flush=True)
    return {"seed": seed, **figures}


def compared(work: Path, labels: str) -> dict:
    """What the two scorings of the other half say, against its labels."""
    rows, raw = (_labelled(work / name / "predictions.csv") for name in ("out", "raw"))
    run = json.loads((work / "out/run.json").read_text())
    is_so = labels_of(work / "other", labels)
    right = np.array([row["label"] == is_so[row["path"]] for row in rows])
    left = np.array([row["review"] == "True" for row in rows])
    return {
        "photos": len(rows),
        "accuracy": round(float(right.mean()), 4),
        "ece_raw": round(_error(raw, is_so), 4),
        "ece": round(_error(rows, is_so), 4),
        "unreviewed": int((~left).sum()),
        "unreviewed_right": round(float(right[~left].mean()), 4) if not left.all() else None,
        "left_to_people": round(float(left.mean()), 4),
        "left_told": round(run["review"]["expected_share"], 4),
        "wrong_caught": f"{int((left & ~right).sum())} of {int((~right).sum())}",
    }


def _labelled(path: Path) -> list[dict]:
    return [row for row in rows_of(path) if row["status"] == "ok"]


def _error(rows: list[dict], is_so: dict[str, str]) -> float:
    classes = [name[2:] for name in rows[0] if name.startswith("p_")]
    told = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    targets = np.array([classes.index(is_so[row["path"]]) for row in rows])
    return expected_calibration_error(reliability_bins(told, targets))


if __name__ == "__main__":
    main()
