"""What the commands print of a scoring run and of the demo."""

import csv
from pathlib import Path
from typing import Any

from visionflows.cli.terminal import Rows, parse_facts, print_parts
from visionflows.reports.rendering import render
from visionflows.scoring.schema import RunResult


def summary_lines(run: dict[str, Any]) -> list[str]:
    """The counts, warnings and files of a scoring run, one line each; `run` is its run.json."""
    result = RunResult.model_validate(run, strict=False)
    return render("run.txt", run=result).splitlines()


def evaluation_lines(result: dict[str, Any]) -> list[str]:
    """The metrics, counts and files of an evaluation, one line each."""
    return render("evaluation.txt", **result).splitlines()


def print_demo(folder: Path, result: dict[str, Any]) -> float:
    """Print the result of the demo; the accuracy on the held-out digits is returned."""
    scores, expected = folder / "scores", result["expected"]
    with (scores / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = {row["path"]: row["label"] for row in rows}
    correct = {path: labels.get(path) == label for path, label in expected.items()}
    accuracy: float = sum(correct.values()) / len(expected)
    page = render("demo.txt", accuracy=accuracy, rows=rows, scores=scores, **result)
    counts, pages = page.split("\n# ")
    print_parts(_accuracy_table(correct, expected), counts, parse_facts(pages))
    return accuracy


def _accuracy_table(correct: dict[str, bool], expected: dict[str, str]) -> Rows:
    """The accuracy of each digit, and of all."""
    groups = {
        digit: [correct[path] for path, label in expected.items() if label == digit]
        for digit in sorted(set(expected.values()))
    } | {"all": [*correct.values()]}
    rows = [[name, str(len(one)), f"{sum(one) / len(one):.1%}"] for name, one in groups.items()]
    return Rows(("digit", "files", "correct"), rows, numbers=("files", "correct"))
