"""Compare the labels of large photos between full and scaled decoding.

    python bench/agreement.py --photos big --model pets --store store

The same engine scores in float32, once with `--decode full` and once scaled. The result lists the
disagreements and their margins.
"""

import argparse
from pathlib import Path

import numpy as np
from record import hardware, versions, write_result

from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.storage import open_storage
from visionflows.training.evidence.label_agreement import predict_full_and_scaled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True, help="a folder of large .jpg photos")
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", default="store")
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    photos = Path(options.photos)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    model = load_model(find_model(options.model, options.store))
    names, full, scaled = predict_full_and_scaled(model, open_storage(options.photos), names)
    difference, labels = np.abs(full - scaled), (full.argmax(1), scaled.argmax(1))
    disagreements = np.flatnonzero(labels[0] != labels[1])
    result = {
        "hardware": hardware(),
        "versions": versions(),
        "network": options.model,
        "photos": len(names),
        "labels_equal": round(1 - len(disagreements) / len(names), 5),
        "disagreements": {names[at]: round(_margin(full[at]), 4) for at in disagreements},
        "largest_difference": round(float(difference.max()), 4),
        "mean_difference": round(float(difference.mean()), 5),
    }
    write_result(result, options.results, "decode-agreement")


def _margin(probabilities: np.ndarray) -> float:
    """The difference between the two highest probabilities."""
    highest = np.sort(probabilities)[::-1]
    return float(highest[0] - highest[1])


if __name__ == "__main__":
    main()
