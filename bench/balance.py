"""What --balance does for rare classes: a dataset thinned to 30:1, trained with each choice.

    python bench/balance.py ../shared/data/trashnet.tgz --labels folder \\
        --arch tf_efficientnet_lite0 --pretrained ../shared/data/tf_efficientnet_lite0.safetensors

For each seed, half of each class is put aside. The other half is thinned, so that the largest
class has 30 times the images of the smallest, and trained on with each --balance. `visionflows
evaluate` then measures each model on the half put aside: on all of it (balanced accuracy, macro
F1), and thinned likewise (error rate and calibration error at the frequencies of the training).
"""

import argparse
import json
import random
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from halves import options, training, visionflows, write_with_settings

from visionflows.datasets.fetch import fetch
from visionflows.datasets.file_table import build_table
from visionflows.storage.name_encoding import decode_name

CHOICES = ("none", "sqrt", "full")


def main() -> None:
    parser = options(__doc__, epochs="4")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ratio", type=float, default=30)
    parsed = parser.parse_args()
    runs: dict[str, list[dict]] = {choice: [] for choice in CHOICES}
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/store"
        photos = fetch(parsed.dataset, store).folder
        table = build_table(photos, parsed.labels)
        for seed in range(1, parsed.seeds + 1):
            parts = thinned_parts(table[table.status == "ok"], seed, parsed.ratio)
            work = Path(folder, str(seed))
            for name, files in parts.items():
                link(photos, files, work / name)
            for choice in CHOICES:
                runs[choice].append(measure(work, choice, seed, store, parsed))
                print(seed, choice, runs[choice][-1], flush=True)
    counts = {label: len(files) for label, files in parts["train"].items()}
    summary = {choice: averages(each) for choice, each in runs.items()}
    write_with_settings(parsed, {"train": counts, "summary": summary, "runs": runs}, "balance")


def thinned_parts(table, seed: int, ratio: float) -> dict[str, dict[str, list[str]]]:
    """The paths by class of the parts `train` and `test_thinned`, which are thinned, and `test`."""
    counts = table.label.value_counts()
    parts: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for rank, label in enumerate(counts.index):
        paths = sorted(table.path[table.label == label])
        random.Random(f"{seed} {label}").shuffle(paths)
        half = len(paths) // 2
        share = ratio ** (-rank / (len(counts) - 1)) * counts.max() / counts[label]
        kept = max(round(min(share, 1) * half), 2)
        parts["train"][label] = paths[:half][:kept]
        parts["test"][label] = paths[half:]
        parts["test_thinned"][label] = paths[half:][:kept]
    return parts


def link(photos: Path, files: dict[str, list[str]], folder: Path) -> None:
    """Make a folder of class folders with links to the photos."""
    for label, paths in files.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(paths):
            photo = photos / decode_name(path)
            (folder / label / f"{number}{photo.suffix}").symlink_to(photo)


def measure(
    work: Path, choice: str, seed: int, store: str, parsed: argparse.Namespace
) -> dict[str, float]:
    """Train with a --balance and evaluate on both test parts."""
    arguments = training(parsed, work / "train", f"{choice}-{seed}", seed)
    visionflows("train", *arguments, "--balance", choice, "--store", store)
    found = {}
    for part in ("test", "test_thinned"):
        output = work / f"{part}-{choice}"
        words = (f"{choice}-{seed}", work / part, "--labels", "folder", "--store", store)
        visionflows("evaluate", *words, "--output", output)
        found[part] = json.loads((output / "evaluation.json").read_text())
    full, thinned = found["test"], found["test_thinned"]
    return {
        "balanced_accuracy": full["metrics"]["balanced_accuracy"],
        "macro_f1": full["metrics"]["macro_f1"],
        "error_rate_thinned": thinned["metrics"]["error_rate"],
        "calibration_error_thinned": thinned["ece"],
    }


def averages(runs: list[dict]) -> dict:
    """The mean and standard deviation of each figure."""
    return {
        name: [
            round(statistics.mean(run[name] for run in runs), 4),
            round(statistics.stdev(run[name] for run in runs), 4) if len(runs) > 1 else 0.0,
        ]
        for name in runs[0]
    }


if __name__ == "__main__":
    main()
