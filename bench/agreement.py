"""Whether large photos decoded smaller get the labels of whole ones: flips, their margins.

    python bench/agreement.py --photos big --model pets --store store

In float32, the same engine twice: `--decode full` and scaled.
"""

import argparse
from pathlib import Path

import numpy as np
from record import hardware, versions, written

from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.storage import open_storage
from visionflows.training.evidence.decode_agreement import predict_full_and_scaled


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
    names, whole, scaled = predict_full_and_scaled(model, open_storage(options.photos), names)
    apart, labels = np.abs(whole - scaled), (whole.argmax(1), scaled.argmax(1))
    disagreements = np.flatnonzero(labels[0] != labels[1])
    told = {
        "network": options.model,
        "photos": len(names),
        "labels_equal": round(1 - len(disagreements) / len(names), 5),
        "disagreements": {names[at]: round(_margin(whole[at]), 4) for at in disagreements},
        "largest_difference": round(float(apart.max()), 4),
        "mean_difference": round(float(apart.mean()), 5),
    }
    found = {"hardware": hardware(), "versions": versions(), **told}
    written(found, options.results, "decode-agreement")


def _margin(probabilities: np.ndarray) -> float:
    """How far the best class is before the next: what a flip had to overcome."""
    best = np.sort(probabilities)[::-1]
    return float(best[0] - best[1])


if __name__ == "__main__":
    main()
