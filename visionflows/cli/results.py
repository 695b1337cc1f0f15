"""What the commands print of a scoring run and of the demo."""

import csv
from pathlib import Path
from typing import Any

from visionflows.cli.terminal import Rows, facts, print_parts
from visionflows.reports.rendering import render
from visionflows.scoring.schema import RunResult


def summary_lines(run: dict[str, Any]) -> list[str]:
    """The counts, warnings and files of a scoring run, one line each; `run` is its run.json."""
    result = RunResult.model_validate(run, strict=False)
    return render("run.txt", run=result).splitlines()


def print_demo(folder: Path, result: dict[str, Any]) -> float:
    """Print the result of the demo; the accuracy on the held-out digits is returned."""
    with (folder / "scores/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected, found = result["expected"], result["run"]["counts"]["found"]
    labels = {row["path"]: row["label"] for row in rows}
    correct = {path: labels.get(path) == label for path, label in expected.items()}
    accuracy: float = sum(correct.values()) / len(expected)
    failed = [row for row in rows if row["status"] != "ok"]
    print_parts(
        _accuracy_table(correct, expected),
        f"accuracy {accuracy:.4f} on {len(expected)} held-out digits",
        f"{found} files, {len(rows)} rows, {len(failed)} failed:",
        *(f"  {row['path']}: {row['status']}: {row['error']}" for row in failed),
        facts("Open these:", _demo_pages(folder / "scores", result["model"])),
    )
    return accuracy


def _demo_pages(scores: Path, model: str) -> list[tuple[str, str]]:
    return [
        ("training report", f"{model}/report.html"),
        ("scoring report", f"{scores}/report.html"),
        ("review page", f"{scores}/review.html"),
        ("run history", f"{scores}/history.html"),
        ("predictions", f"{scores}/predictions.csv"),
    ]


def _accuracy_table(correct: dict[str, bool], expected: dict[str, str]) -> Rows:
    """The accuracy of each digit, and of all."""
    groups = {
        digit: [correct[path] for path, label in expected.items() if label == digit]
        for digit in sorted(set(expected.values()))
    } | {"all": [*correct.values()]}
    rows = [[name, str(len(one)), f"{sum(one) / len(one):.1%}"] for name, one in groups.items()]
    return Rows(("digit", "files", "correct"), rows, numbers=("files", "correct"))
