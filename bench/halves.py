"""Shared by benchmarks that train on half of the photos and score the other half.

from halves import halves, labels_of, options, training, visionflows, write_with_settings
halves(photos, work, seed=0)                # work/learnt and work/other
visionflows("train", *training(parsed, work / "learnt", "pets", seed=0), "--store", store)
"""

import argparse
import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from record import hardware, versions, write_result

from visionflows.datasets.label_rows import label_rows
from visionflows.datasets.label_rules import parse_label_rule


def options(description: str, epochs: str) -> argparse.ArgumentParser:
    """A parser with the options for the dataset, the network and the training."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--labels", default="uppercase")
    parser.add_argument("--arch", default="resnet34")
    parser.add_argument("--pretrained", default="default")
    parser.add_argument("--image-size", default="160")
    parser.add_argument("--epochs", default=epochs)
    parser.add_argument("--results", default="bench/results")
    return parser


def halves(photos: Path, work: Path, seed: int) -> None:
    """Split the photos into two folders of links, by a hash of their names."""
    files = [path for path in photos.rglob("*") if path.is_file() and path.name[0] != "."]
    files.sort(key=lambda path: hashlib.sha256(f"{seed}:{path.name}".encode()).digest())
    for at, path in enumerate(files):
        target = work / ("learnt" if at < len(files) // 2 else "other")
        target.mkdir(exist_ok=True)
        try:
            os.link(path, target / path.name)
        except OSError:
            (target / path.name).symlink_to(path)


def labels_of(folder: Path, rule: str) -> dict[str, str]:
    """The labels of the photos in one half, by path."""
    rows, _, _ = label_rows(parse_label_rule(rule), folder, sorted(os.listdir(folder)))
    return {row["path"]: row["label"] for row in rows}


def training(parsed: argparse.Namespace, folder: Path, name: str, seed: int) -> list[str]:
    """The arguments of `train` and `retrain`, without labels and store."""
    arguments = [str(folder), "--name", name, "--arch", parsed.arch, "--seed", str(seed)]
    arguments += ["--pretrained", parsed.pretrained, "--image-size", parsed.image_size]
    return [*arguments, "--epochs", parsed.epochs]


def visionflows(*arguments: object) -> str:
    """Run a command without the user's Prefect settings, and return its output."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    command = [sys.executable, "-m", "visionflows.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, text=True).stdout


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_with_settings(parsed: argparse.Namespace, figures: dict, name: str) -> None:
    """Print and save a result with the options that it was made with."""
    settings = {key: value for key, value in vars(parsed).items() if key != "results"}
    settings |= {key: Path(settings[key]).name for key in ("dataset", "pretrained")}
    result = {"hardware": hardware(), "versions": versions(), "settings": settings, **figures}
    write_result(result, parsed.results, name)
