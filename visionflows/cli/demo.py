"""What the demo tells: how many held-out digits are right, and which files to open.

from visionflows.cli.demo import show
show(folder, demo(folder))
"""

import csv
from pathlib import Path
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table


def show(folder: Path, result: dict[str, Any]) -> float:
    """Print what came of a demo; the share of held-out digits that were labelled right."""
    with (folder / "scores" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected, counts, console = result["expected"], result["run"]["counts"], Console()
    right = {row["path"]: row["label"] == expected.get(row["path"]) for row in rows}
    accuracy: float = sum(right.values()) / len(expected)
    console.print(_table(right, expected))
    bad = [row for row in rows if row["status"] != "ok"]
    console.print(f"accuracy {accuracy:.4f} on {len(expected)} held-out digits")
    console.print(f"{counts['found']} files, {len(rows)} rows, {len(bad)} of them failed:")
    for row in bad:
        console.print(f"  {row['path']}: {row['status']}: {row['error']}", highlight=False)
    console.print("\nOpen these:")
    scores = f"{folder}/scores"
    for path in (
        f"{scores}/report.html",
        f"{scores}/predictions.csv",
        f"{result['model']}/report.html",
    ):
        console.print(f"  {path}", highlight=False, soft_wrap=True)
    return accuracy


def _table(right: dict[str, bool], expected: dict[str, str]) -> Table:
    """How many of each digit are right, and of all."""
    table = Table()
    justify: JustifyMethod
    for column, justify in (("digit", "left"), ("files", "right"), ("right", "right")):
        table.add_column(column, justify=justify)
    for digit in sorted(set(expected.values())):
        mine = [right[path] for path, label in expected.items() if label == digit]
        table.add_row(digit, str(len(mine)), f"{sum(mine) / len(mine):.1%}")
    table.add_section()
    table.add_row("all", str(len(expected)), f"{sum(right.values()) / len(expected):.1%}")
    return table
