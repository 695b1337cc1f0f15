"""Recipes beside fastai's own and a linear probe: errors and seconds on the same photos.

    python bench/recipes.py --data ../shared/data --sets cats-dogs=1,2,3,4,5 trashnet=1,2,3

A set is followed by its seeds; `--continue RESULT.json` adds to an earlier result. Every side is a
process of its own, one after another, and trains and validates on the same images from the same
ImageNet weights. Seconds are those of the whole process. The sides:

    fine_tune(1), fine_tune(4)    fastai as in its tutorial, with its own loaders
    scikit-learn                  logistic regression on pooled features, C by cross-validation
    auto, probe, fastai           `visionflows train --recipe …`, evidence and report included
"""

import argparse
import csv
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import hardware, versions, write_result

ARCHITECTURE = "tf_efficientnet_lite0"
SIDES = ("fine_tune(1)", "fine_tune(4)", "scikit-learn", "auto", "probe", "fastai")
OURS = ("auto", "probe", "fastai")


def label_rule(name: str, folder: Path) -> str:
    """The label rule of a set of shared/data that is unpacked in a folder."""
    rules = {"cats-dogs": "uppercase", "trashnet": "folder"}
    return rules.get(name) or f"csv:{folder}/scenes/labels.csv#image_name,label"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["cats-dogs=1,2,3", "trashnet=1", "scenes=1"])
    parser.add_argument("--continue", dest="earlier", type=Path, help="a result to add to")
    parser.add_argument("--sides", nargs="+", default=list(SIDES))
    parser.add_argument("--options", nargs="*", default=[], help="more words of visionflows train")
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--one", help="run one side in this process: JSON of its arguments")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(**json.loads(options.one))))
        return
    result: dict = {"hardware": hardware(), "versions": versions(), "options": options.options}
    if options.earlier:
        result |= json.loads(options.earlier.read_text())
    with tempfile.TemporaryDirectory() as folder:
        for entry in options.sets:
            name, _, seeds = entry.partition("=")
            runs = result.get(name, {}).get("runs", {})
            for side, found in compare(name, seeds.split(","), options, Path(folder)).items():
                runs[side] = runs.get(side, []) + found
            result[name] = {"summary": {side: summary(runs[side]) for side in runs}, "runs": runs}
            print(json.dumps({name: result[name]["summary"]}, indent=2), flush=True)
    write_result(result, options.results, "recipes")


def compare(
    name: str, seeds: list[str], options: argparse.Namespace, work: Path
) -> dict[str, list[dict]]:
    """The figures of each side for each seed."""
    runs: dict[str, list[dict]] = {side: [] for side in options.sides}
    for seed in map(int, seeds):
        table = prepare(name, seed, options.data, work)
        for side in options.sides:
            arguments = {"name": name, "side": side, "seed": seed, "data": str(options.data)}
            arguments |= {"table": str(table), "work": str(work), "options": options.options}
            words = [sys.executable, __file__, "--data", str(options.data)]
            began = time.monotonic()
            done = subprocess.run(
                [*words, "--one", json.dumps(arguments)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            figures = json.loads(done.stdout.splitlines()[-1])
            figures |= {"seed": seed, "seconds": round(time.monotonic() - began, 1)}
            print(name, seed, side, figures, file=sys.stderr, flush=True)
            runs[side].append(figures)
    return runs


def summary(runs: list[dict]) -> dict:
    """The mean of each figure and its standard deviation over the seeds."""
    numbers = [key for key, value in runs[0].items() if isinstance(value, float)]
    found: dict = {"seeds": len(runs)}
    for key in numbers:
        values = [run[key] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        found[key] = [round(statistics.mean(values), 4), round(spread, 4)]
    return found


def prepare(name: str, seed: int, data: Path, work: Path) -> Path:
    """The file table of a seed, as a pickle for all sides."""
    from visionflows.datasets import fetch, file_table

    folder = fetch.fetch(data / f"{name}.tgz", work / "store").folder
    table = file_table.build_table(folder, label_rule(name, folder), seed=seed)
    table.attrs = {"folder": str(folder)}
    table.to_pickle(path := work / f"{name}-{seed}.pkl")
    return path


def run_one(
    name: str, side: str, seed: int, data: str, table: str, work: str, options: list
) -> dict:
    """The figures of one side."""
    weights = f"{data}/{ARCHITECTURE}.safetensors"
    if side in OURS:
        return run_ours(name, side, seed, data, work, weights, options)
    import pandas as pd

    files = pd.read_pickle(table)
    folder = files.attrs["folder"]
    usable = files[files.status == "ok"].reset_index(drop=True)
    if side == "scikit-learn":
        return run_scikit_learn(usable, folder, weights)
    return run_fastai(usable, folder, weights, int(side[-2]), seed)


def figures(probabilities: np.ndarray, targets: np.ndarray) -> dict:
    """Error rate, balanced accuracy and expected calibration error."""
    from sklearn.metrics import balanced_accuracy_score

    from visionflows.evaluation.calibration import expected_calibration_error, reliability_bins

    predicted = probabilities.argmax(1)
    bins = reliability_bins(probabilities.max(1), predicted == targets)
    return {
        "error_rate": float((predicted != targets).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(targets, predicted)),
        "calibration_error": expected_calibration_error(bins),
    }


def run_fastai(usable, folder: str, weights: str, epochs: int, seed: int) -> dict:
    """fastai's fine_tune with fastai's own loaders."""
    from fastai.vision.all import ImageDataLoaders, Resize, error_rate, set_seed, vision_learner

    set_seed(seed, reproducible=True)
    loaders = ImageDataLoaders.from_df(
        usable,
        folder,
        fn_col="path",
        label_col="label",
        valid_col="is_valid",
        item_tfms=Resize(224),
    )
    overlay = {"file": weights}
    learn = vision_learner(
        loaders, ARCHITECTURE, metrics=error_rate, pretrained_cfg_overlay=overlay
    )
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(epochs)
        probabilities, targets = learn.get_preds()
    return figures(probabilities.numpy(), targets.numpy())


def run_scikit_learn(usable, folder: str, weights: str) -> dict:
    """Logistic regression on the pooled features that timm's network gives."""
    import timm
    import torch
    from PIL import Image
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from torch.utils.data import DataLoader

    network = timm.create_model(
        ARCHITECTURE, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": weights}
    ).eval()
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(
            {"input_size": (3, 224, 224), "crop_pct": 1.0}, model=network
        )
    )
    images = [Path(folder, path) for path in usable.path]
    loader = DataLoader(
        [*images],  # type: ignore[arg-type]
        batch_size=32,
        collate_fn=lambda paths: torch.stack(
            [transform(Image.open(path).convert("RGB")) for path in paths]
        ),
    )
    with torch.inference_mode():
        features = torch.cat([network(batch) for batch in loader]).numpy()
    valid = usable.is_valid.to_numpy(bool)
    classes = sorted(usable.label.unique())
    targets = usable.label.map(classes.index).to_numpy()
    model = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        {"logisticregression__C": [0.001, 0.003, 0.01, 0.03, 0.1]},
        scoring="neg_log_loss",
        cv=4,
    ).fit(features[~valid], targets[~valid])
    return figures(model.predict_proba(features[valid]), targets[valid])


def run_ours(
    name: str, recipe: str, seed: int, data: str, work: str, weights: str, options: list
) -> dict:
    """`visionflows train`: the metrics in the model.json that it published."""
    store = Path(work, "store")
    (folder,) = (store / "datasets").glob(f"{name}-*")
    words = ["train", f"{data}/{name}.tgz", "--name", f"{name}-{recipe}-{seed}"]
    words += ["--labels", label_rule(name, folder), "--arch", ARCHITECTURE, "--seed", str(seed)]
    words += ["--pretrained", weights, "--recipe", recipe, "--store", str(store), *options]
    command = [sys.executable, "-m", "visionflows.cli", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (artifact,) = (store / f"models/{name}-{recipe}-{seed}").glob("2*Z-*")
    info = json.loads((artifact / "model.json").read_text())
    text = (artifact / "validation.csv").read_text()
    rows = [*csv.DictReader(io.StringIO(text))]
    selection = info["training"].get("selection") or {}
    return {
        "error_rate": info["metrics"]["error_rate"],
        "balanced_accuracy": info["metrics"]["balanced_accuracy"],
        "calibration_error": info["calibration"].get("ece") or 0.0,
        "published": selection.get("published", ""),
        "images": len(rows),
    }


if __name__ == "__main__":
    main()
