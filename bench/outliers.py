"""How well pictures of another kind are told, by the product's way and by others that are known.

    python bench/oddities.py odd --each 50
    python bench/outliers.py --model pets --store store --data half --photos rest --odd odd

`--data` is what the model was trained on, `--photos` are photos of its classes that it never saw,
`--odd` what bench/oddities.py draws. A method says how odd a picture is; of each: AUROC (the
share of pairs of a photo and an odd picture in which the odd one is the odder), the share of the
400 drawn pictures that is detected at 5 % false alarms among the photos, and both shares at
thresholds that the validation images set, as training does it. The ninth kind, crops of two real
photographs, is told by itself.

    knn          k nearest neighbours (Sun et al., ICML 2022), all features, 1,000 images
    energy       of the logits (W. Liu, X. Wang, J. Owens, Y. Li, NeurIPS 2020)
    softmax      one minus the confidence (D. Hendrycks, K. Gimpel, ICLR 2017)
    mahalanobis  to the nearest class (K. Lee, K. Lee, H. Lee, J. Shin, NeurIPS 2018); `unit`: of
                 features of length 1
    product      visionflows.evaluation.outliers; `only within`: without what lies in no direction
"""

import argparse
import csv
import io
import time
from pathlib import Path

import numpy as np
from oddities import DRAWN
from record import hardware, versions, written

from visionflows.evaluation.outliers import conformal_threshold, fit_detector, read_detector
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import load_model, load_network
from visionflows.models.network import split_pooling
from visionflows.models.registry import find_model
from visionflows.storage import open_storage
from visionflows.training.evidence.fit_calibration import holdout_half
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
    def told(features):
        squared = np.maximum(2 - 2 * units(features) @ units(bank).T, 0)
        return np.sqrt(np.partition(squared, k - 1, axis=1)[:, k - 1])

    return told


def product(bank, k, directions):
    made = fit_detector(bank, k, directions)
    return lambda features: np.array([made.outlier_score(one) for one in features])


def only_within(bank, k, directions):
    made = fit_detector(bank, k, directions)

    def told(features):
        along = (units(features) - made.centre) @ made.components.T
        squared = ((along[:, None] - made.images[None]) ** 2).sum(2)
        return np.sqrt(np.partition(squared, k - 1, axis=1)[:, k - 1])

    return told


def mahalanobis(bank, labels, scale):
    known = scale(bank.astype(np.float64))
    means = [known[labels == label].mean(0) for label in np.unique(labels)]
    apart = np.concatenate(
        [
            known[labels == label] - mean
            for label, mean in zip(np.unique(labels), means, strict=True)
        ]
    )
    covariance = apart.T @ apart / len(apart)
    covariance += np.eye(len(covariance)) * 1e-3 * np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv(covariance)

    def told(features):
        own = scale(features.astype(np.float64))
        return np.min([np.sum((own - mean) @ inverse * (own - mean), 1) for mean in means], 0)

    return told


def of_logits(model, of):
    """A method of the logits, which the head makes of features."""
    import torch

    _, head = split_pooling(load_network(model)[1])

    def told(features):
        with torch.inference_mode():
            return of(head(torch.from_numpy(features)).double())

    return told


def judged(told, sides, setting, kinds):
    """The figures of one method; `setting` are the validation images that set thresholds."""
    valid, photos, odd = (told(side) for side in sides)
    drawn = odd[kinds != "photo"]
    pairs = drawn[:, None] - photos[None]
    at_five = np.quantile(photos, 0.95)
    found = {
        "auroc": float((pairs > 0).mean() + 0.5 * (pairs == 0).mean()),
        "detected_at_5_percent": float((drawn > at_five).mean()),
        "by_kind": {
            kind: float((odd[kinds == kind] > at_five).mean()) for kind in np.unique(kinds)
        },
    }
    for share in SHARES:
        threshold = conformal_threshold(valid[setting], share)
        found[f"threshold_for_{share}"] = {
            "detected": float((drawn > threshold).mean()),
            "of_real_photographs": float((odd[kinds == "photo"] > threshold).mean()),
            "false_alarms_validation": float((valid[~setting] > threshold).mean()),
            "false_alarms_photos": float((photos > threshold).mean()),
        }
    return found


def by_itself(rows, judging):
    """What the published model said of each side, as a scoring run would write it."""
    told = {side: np.array([row.outlier_score > 1 for row in own]) for side, own in rows.items()}
    drawn = np.array([not row.name.startswith("photo-") for row in rows["odd"]])
    return {
        "detected": float(told["odd"][drawn].mean()),
        "of_real_photographs": float(told["odd"][~drawn].mean()),
        "false_alarms_photos": float(told["photos"].mean()),
        "false_alarms_validation": float(told["valid"][judging].mean()),
    }


def cost(model, features):
    """Milliseconds an image: of the network on one core, and of telling how odd it is."""
    engine = make_engine(model, EngineSettings(precision="float32", device="cpu", workers=1))
    side, bank = model.info.image_size, read_detector(model)
    pixels = np.random.default_rng(0).integers(0, 256, (16, side, side, 3), dtype=np.uint8)
    return {
        "network": _least(lambda: engine.forward(pixels), 10) / 16,
        "outlier_score": _least(lambda: [bank.outlier_score(one) for one in features[:64]], 60)
        / 64,
    }


def _least(run, times):
    """The least of some milliseconds: what else runs on the machine only adds to them."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        took.append(1000 * (time.perf_counter() - began))
    return min(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "data", "photos", "odd"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--store", default="store")
    parser.add_argument("--precisions", nargs="+", default=["bfloat16"])
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    model = load_model(find_model(options.model, options.store))
    files = [*csv.DictReader(io.StringIO(model.files.read("files.csv").decode(), newline=""))]
    files.sort(key=lambda row: row["sha256"])
    trained = [row for row in files if row["is_valid"] == "False"]
    valid = [row for row in files if row["is_valid"] == "True"]
    names = sorted(path.name for path in Path(options.photos).iterdir())
    chosen = np.linspace(0, len(names) - 1, PHOTOS).astype(int)
    sides = {
        "trained": (options.data, [row["path"] for row in trained]),
        "valid": (options.data, [row["path"] for row in valid]),
        "photos": (options.photos, [names[at] for at in chosen]),
        "odd": (options.odd, sorted(path.name for path in Path(options.odd).iterdir())),
    }
    engine = make_engine(model, EngineSettings(precision="float32", device="cpu"))
    engine.features = True
    rows = {side: rows_of(engine, *where) for side, where in sides.items()}
    features = {side: np.stack([row.features for row in own]) for side, own in rows.items()}
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
        "mahalanobis": mahalanobis(features["trained"], labels, lambda own: own),
        "mahalanobis, unit": mahalanobis(features["trained"], labels, units),
    }
    kinds = np.array([name.rsplit("-", 1)[0] for name in sides["odd"][1]])
    setting = ~holdout_half([row["sha256"] for row in valid])
    three = [features[side] for side in ("valid", "photos", "odd")]
    product_says = {"float32": by_itself(rows, ~setting)}
    for precision in options.precisions:
        engine = make_engine(model, EngineSettings(precision=precision, device="cpu"))
        again = {
            side: rows_of(engine, *where) for side, where in sides.items() if side != "trained"
        }
        product_says[precision] = by_itself(again, ~setting)
    told = {
        "network": model.info.architecture,
        "error_rate": model.info.metrics.error_rate,
        "outliers": model.info.outliers.model_dump(),
        "images": {side: len(own) for side, own in features.items()},
        "drawn": int((kinds != "photo").sum()),
        "kinds": [kind.__name__ for kind in DRAWN],
        "methods": {name: judged(own, three, setting, kinds) for name, own in methods.items()},
        "product": product_says,
        "milliseconds_an_image": cost(model, features["photos"]),
    }
    written({"hardware": hardware(), "versions": versions(), **told}, options.results, "outliers")


if __name__ == "__main__":
    main()
