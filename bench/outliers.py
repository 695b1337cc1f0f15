"""Compare outlier detection methods on drawn images and unseen photos.

    python bench/outlier_images.py outliers --each 50
    python bench/outliers.py --model pets --store store --data half --photos rest \\
        --outliers outliers

`--data` has the training images, `--photos` photos of the same classes that the model never saw,
`--outliers` the images of bench/outlier_images.py. For each method the result has:

- the AUROC of drawn images against photos
- the share of drawn images detected at 5 % false alarms among the photos
- detections and false alarms at thresholds set on validation images, as training does it

The ninth kind, crops of real photographs, is reported separately.

    knn          k nearest neighbours (Sun et al., ICML 2022), all features, 1,000 images
    energy       of the logits (W. Liu, X. Wang, J. Owens, Y. Li, NeurIPS 2020)
    softmax      one minus the confidence (D. Hendrycks, K. Gimpel, ICLR 2017)
    mahalanobis  to the nearest class (K. Lee, K. Lee, H. Lee, J. Shin, NeurIPS 2018); `unit`: of
                 features of length 1
    product      visionflows.evaluation.outliers; `only within`: without the residual distance
"""

import argparse
import time
from pathlib import Path

import numpy as np
from outlier_images import DRAWN
from record import hardware, versions, write_result

from visionflows.evaluation.calibration import holdout_half
from visionflows.evaluation.outliers import conformal_threshold, fit_detector, read_detector
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import load_model, load_network, read_files_csv
from visionflows.models.network import split_pooling
from visionflows.models.registry import find_model
from visionflows.storage import open_storage
from visionflows.training.evidence.outlier_detector import BANK_IMAGES

SHARES = (0.05, 0.02, 0.01)
PHOTOS = 800


def rows_of(engine, folder, names):
    size = engine.batch_size
    batches = ([*names[at : at + size]] for at in range(0, len(names), size))
    rows = [row for batch in engine.predict_batches(open_storage(folder), batches) for row in batch]
    assert all(row.status == "ok" for row in rows)
    return rows


def units(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def knn(bank, k):
    def score(features):
        squared = np.maximum(2 - 2 * units(features) @ units(bank).T, 0)
        return np.sqrt(np.partition(squared, k - 1, axis=1)[:, k - 1])

    return score


def product(bank, k, directions):
    detector = fit_detector(bank, k, directions)
    return lambda features: np.array([detector.outlier_score(row) for row in features])


def only_within(bank, k, directions):
    detector = fit_detector(bank, k, directions)

    def score(features):
        along = (units(features) - detector.centre) @ detector.components.T
        squared = ((along[:, None] - detector.images[None]) ** 2).sum(2)
        return np.sqrt(np.partition(squared, k - 1, axis=1)[:, k - 1])

    return score


def mahalanobis(bank, labels, scale):
    scaled = scale(bank.astype(np.float64))
    means = [scaled[labels == label].mean(0) for label in np.unique(labels)]
    deviations = np.concatenate(
        [
            scaled[labels == label] - mean
            for label, mean in zip(np.unique(labels), means, strict=True)
        ]
    )
    covariance = deviations.T @ deviations / len(deviations)
    covariance += np.eye(len(covariance)) * 1e-3 * np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv(covariance)

    def score(features):
        scaled = scale(features.astype(np.float64))
        return np.min([np.sum((scaled - mean) @ inverse * (scaled - mean), 1) for mean in means], 0)

    return score


def of_logits(model, score_logits):
    """A method that scores the logits of features."""
    import torch

    _, head = split_pooling(load_network(model)[1])

    def score(features):
        with torch.inference_mode():
            return score_logits(head(torch.from_numpy(features)).double())

    return score


def evaluate(score, sides, setting, kinds):
    """Evaluate one method. `setting` selects the validation images that set thresholds."""
    valid, photos, outliers = (score(features) for features in sides)
    drawn = outliers[kinds != "photo"]
    pairs = drawn[:, None] - photos[None]
    at_5_percent = np.quantile(photos, 0.95)
    result = {
        "auroc": float((pairs > 0).mean() + 0.5 * (pairs == 0).mean()),
        "detected_at_5_percent": float((drawn > at_5_percent).mean()),
        "by_kind": {
            kind: float((outliers[kinds == kind] > at_5_percent).mean())
            for kind in np.unique(kinds)
        },
    }
    for share in SHARES:
        threshold = conformal_threshold(valid[setting], share)
        result[f"threshold_for_{share}"] = {
            "detected": float((drawn > threshold).mean()),
            "of_real_photographs": float((outliers[kinds == "photo"] > threshold).mean()),
            "false_alarms_validation": float((valid[~setting] > threshold).mean()),
            "false_alarms_photos": float((photos > threshold).mean()),
        }
    return result


def evaluate_published(rows, holdout):
    """Evaluate the outlier scores of the published model, as a scoring run writes them."""
    found = {
        side: np.array([row.outlier_score > 1 for row in side_rows])
        for side, side_rows in rows.items()
    }
    drawn = np.array([not row.name.startswith("photo-") for row in rows["odd"]])
    return {
        "detected": float(found["odd"][drawn].mean()),
        "of_real_photographs": float(found["odd"][~drawn].mean()),
        "false_alarms_photos": float(found["photos"].mean()),
        "false_alarms_validation": float(found["valid"][holdout].mean()),
    }


def cost(model, features):
    """Milliseconds an image, on one core: of the network and of the outlier score."""
    engine = make_engine(model, EngineSettings(precision="float32", device="cpu", workers=1))
    side, detector = model.info.image_size, read_detector(model)
    pixels = np.random.default_rng(0).integers(0, 256, (16, side, side, 3), dtype=np.uint8)
    return {
        "network": _fastest(lambda: engine.forward(pixels), 10) / 16,
        "outlier_score": _fastest(
            lambda: [detector.outlier_score(row) for row in features[:64]], 60
        )
        / 64,
    }


def _fastest(run, times):
    """The fastest of several calls in milliseconds: other load only adds to it."""
    milliseconds = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        milliseconds.append(1000 * (time.perf_counter() - began))
    return min(milliseconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "data", "photos", "outliers"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--store", default="store")
    parser.add_argument("--precisions", nargs="+", default=["bfloat16"])
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    model = load_model(find_model(options.model, options.store))
    files = read_files_csv(model.files)
    files.sort(key=lambda row: row["sha256"])
    trained = [row for row in files if row["is_valid"] == "False"]
    valid = [row for row in files if row["is_valid"] == "True"]
    names = sorted(path.name for path in Path(options.photos).iterdir())
    chosen = np.linspace(0, len(names) - 1, PHOTOS).astype(int)
    sides = {
        "trained": (options.data, [row["path"] for row in trained]),
        "valid": (options.data, [row["path"] for row in valid]),
        "photos": (options.photos, [names[at] for at in chosen]),
        "odd": (
            options.outliers,
            sorted(path.name for path in Path(options.outliers).iterdir()),
        ),
    }
    engine = make_engine(model, EngineSettings(precision="float32", device="cpu"))
    engine.features = True
    rows = {side: rows_of(engine, *where) for side, where in sides.items()}
    features = {
        side: np.stack([row.features for row in side_rows]) for side, side_rows in rows.items()
    }
    bank = features["trained"][:BANK_IMAGES]
    labels = np.array([row["label"] for row in trained])
    methods = {
        **{
            f"product, k {k}, {d} directions": product(bank, k, d)
            for k, d in ((10, 64), (10, 16), (5, 64))
        },
        "product, only within 64 directions": only_within(bank, 10, 64),
        **{f"knn, k {k}": knn(bank, k) for k in (1, 10, 50)},
        "energy": of_logits(model, lambda logits: -logits.logsumexp(1).numpy()),
        "softmax": of_logits(model, lambda logits: 1 - logits.softmax(1).amax(1).numpy()),
        "mahalanobis": mahalanobis(features["trained"], labels, lambda features: features),
        "mahalanobis, unit": mahalanobis(features["trained"], labels, units),
    }
    kinds = np.array([name.rsplit("-", 1)[0] for name in sides["odd"][1]])
    setting = ~holdout_half([row["sha256"] for row in valid])
    three = [features[side] for side in ("valid", "photos", "odd")]
    published = {"float32": evaluate_published(rows, ~setting)}
    for precision in options.precisions:
        engine = make_engine(model, EngineSettings(precision=precision, device="cpu"))
        side_rows = {
            side: rows_of(engine, *where) for side, where in sides.items() if side != "trained"
        }
        published[precision] = evaluate_published(side_rows, ~setting)
    result = {
        "network": model.info.architecture,
        "error_rate": model.info.metrics.error_rate,
        "outliers": model.info.outliers.model_dump(),
        "images": {side: len(array) for side, array in features.items()},
        "drawn": int((kinds != "photo").sum()),
        "kinds": [kind.__name__ for kind in DRAWN],
        "methods": {
            name: evaluate(method, three, setting, kinds) for name, method in methods.items()
        },
        "product": published,
        "milliseconds_an_image": cost(model, features["photos"]),
    }
    write_result(
        {"hardware": hardware(), "versions": versions(), **result}, options.results, "outliers"
    )


if __name__ == "__main__":
    main()
