"""The whole job on the embedded digits, from an archive to a CSV and a report.

    visionflows demo

The same flows as on any dataset: train on the digits' archive, then score the images that were
held out of training, with one broken file among them.
"""

import csv
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.score import score
from flows.train import train
from tasks import bundle
from tasks.errors import PlaceError
from tasks.learner import TrainSettings
from tasks.predict import ScoreSettings
from tasks.storage import LocalPlace

# From scratch: a small image, a high learning rate, no flips (a mirrored 2 is no digit).
SETTINGS = TrainSettings(
    architecture="resnet18",
    pretrained="none",
    image_size=32,
    epochs=8,
    lr=4e-3,
    augment=False,
)
MARK = ".visionflows-demo"  # what makes a folder ours to make anew


def demo(folder: Path) -> float:
    """The share of held-out digits that were labelled right; the results lie in `folder`."""
    _cleared(folder)
    store = str(folder / "store")
    place = train("digits", "digits", settings=SETTINGS, store=store)
    held_out, expected = _held_out(place, folder)
    run = score(
        str(held_out),
        "digits",
        output=str(folder / "scores"),
        store=store,
        settings=ScoreSettings(shard_size=100),
    )
    accuracy = _show(run, folder / "scores" / "predictions.csv", expected)
    _say(folder, place)
    return accuracy


def _cleared(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise PlaceError(f"{folder}: holds files that are not the demo's; give another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def _held_out(place: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """The validation images in a folder, a broken one beside them; and the labels they have."""
    where = LocalPlace(Path(place))
    info = bundle.load(where).info
    dataset = next((folder / "store" / "datasets").glob(f"{info['dataset']['name']}-*"))
    inbox, expected = folder / "inbox", {}
    inbox.mkdir()
    for row in csv.DictReader(where.read("files.csv").decode().splitlines()):
        if row["is_valid"] == "True":
            source = dataset / row["path"]
            shutil.copyfile(source, inbox / source.name)
            expected[source.name] = row["label"]
    whole = (inbox / min(expected)).read_bytes()
    (inbox / "broken.png").write_bytes(whole[: len(whole) // 2])
    return inbox, expected


def _show(run: dict, predictions: Path, expected: dict[str, str]) -> float:
    with predictions.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = Table()
    for column, justify in (("digit", "left"), ("files", "right"), ("right", "right")):
        table.add_column(column, justify=justify)
    right = {row["path"]: row["label"] == expected.get(row["path"]) for row in rows}
    for digit in sorted(set(expected.values())):
        mine = [right[path] for path, label in expected.items() if label == digit]
        table.add_row(digit, str(len(mine)), f"{sum(mine) / len(mine):.1%}")
    accuracy = sum(right.values()) / len(expected)
    table.add_section()
    table.add_row("all", str(len(expected)), f"{accuracy:.1%}")
    console, books = Console(), run["books"]
    console.print(table)
    bad = [row for row in rows if row["status"] != "ok"]
    console.print(f"accuracy {accuracy:.4f} on {len(expected)} held-out digits")
    console.print(f"{books['found']} files, {len(rows)} rows, {len(bad)} of them failed:")
    for row in bad:
        console.print(f"  {row['path']}: {row['status']}: {row['error']}", highlight=False)
    return accuracy


def _say(folder: Path, place: str) -> None:
    console = Console()
    console.print("\nOpen these:")
    for path in (
        f"{folder}/scores/report.html",
        f"{folder}/scores/predictions.csv",
        f"{place}/report.html",
    ):
        console.print(f"  {path}", highlight=False, soft_wrap=True)
