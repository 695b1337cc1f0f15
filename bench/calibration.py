"""What calibrated confidence and --min-precision are worth on photos held out from everything.

    python bench/calibration.py ../shared/data/cats-dogs.tgz --arch tf_efficientnet_lite0 \\
        --pretrained ../shared/data/tf_efficientnet_lite0.safetensors

Of every seed a model is trained on half of the photos, and the other half is scored twice by the
command line: calibrated with --min-precision, and with --raw. Told are the expected calibration
errors of both, how many labels that were not left to people are right, and the share that was left,
against the one that was told beforehand.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from record import hardware, versions, written

from visionflows.data.fetch import fetch
from visionflows.data.labels import label_rows, parse_label_rule
from visionflows.trust.calibration import expected_error, reliability

PROGRAM = (sys.executable, "-m", "visionflows.cli")


def main() -> None:
    options = _options()
    told = [_told(seed, options) for seed in options.seeds]
    settings = {key: value for key, value in vars(options).items() if key != "results"}
    settings |= {key: Path(settings[key]).name for key in ("dataset", "pretrained")}
    result = {"hardware": hardware(), "versions": versions(), "settings": settings, "seeds": told}
    written(result, options.results, "calibration")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--labels", default="uppercase")
    parser.add_argument("--arch", default="resnet34")
    parser.add_argument("--pretrained", default="default")
    parser.add_argument("--image-size", default="160")
    parser.add_argument("--epochs", default="2")
    parser.add_argument("--valid-pct", default="0.4")
    parser.add_argument("--min-precision", default="0.98")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--store", help="where the models stay; else they go")
    parser.add_argument("--results", default="bench/results")
    return parser.parse_args()


def _told(seed: int, options: argparse.Namespace) -> dict:
    """The figures of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        work, store = Path(folder), options.store or f"{folder}/store"
        photos = fetch(options.dataset, store).folder
        halves(photos, work, seed)
        words = ["--labels", options.labels, "--arch", options.arch, "--seed", str(seed)]
        words += ["--pretrained", options.pretrained, "--image-size", options.image_size]
        words += ["--epochs", options.epochs, "--valid-pct", options.valid_pct]
        _run("train", work / "learnt", "--name", "half", "--store", store, *words)
        scored = ("score", work / "other", "--model", "half", "--store", store, "--output")
        _run(*scored, work / "out", "--min-precision", options.min_precision)
        _run(*scored, work / "raw", "--raw")
        figures = compared(work, options.labels)
    print(seed, json.dumps(figures), flush=True)
    return {"seed": seed, **figures}


def halves(photos: Path, work: Path, seed: int) -> None:
    """Two folders of links to the photos, by lot of their names."""
    files = [path for path in photos.rglob("*") if path.is_file() and path.name[0] != "."]
    files.sort(key=lambda path: hashlib.sha256(f"{seed}:{path.name}".encode()).digest())
    for at, path in enumerate(files):
        target = work / ("learnt" if at < len(files) // 2 else "other")
        target.mkdir(exist_ok=True)
        try:
            os.link(path, target / path.name)
        except OSError:
            (target / path.name).symlink_to(path)


def _run(*words: object) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    subprocess.run([*PROGRAM, *map(str, words)], check=True, env=env, stdout=subprocess.DEVNULL)


def compared(work: Path, labels: str) -> dict:
    """What the two scorings of the other half say, against its labels."""
    rows, raw = (_rows(work / name / "predictions.csv") for name in ("out", "raw"))
    run = json.loads((work / "out/run.json").read_text())
    paths = [row["path"] for row in rows]
    table, _ = label_rows(parse_label_rule(labels), work / "other", paths)
    is_so = {row["path"]: row["label"] for row in table}
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
        "left_told": round(run["review"]["share_told"], 4),
        "wrong_caught": f"{int((left & ~right).sum())} of {int((~right).sum())}",
    }


def _rows(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["status"] == "ok"]


def _error(rows: list[dict], is_so: dict[str, str]) -> float:
    classes = [name[2:] for name in rows[0] if name.startswith("p_")]
    told = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    targets = np.array([classes.index(is_so[row["path"]]) for row in rows])
    return expected_error(reliability(told, targets))


if __name__ == "__main__":
    main()
