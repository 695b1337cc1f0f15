"""What the commands print of a scoring run and of the demo."""

import csv
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def summary_lines(run: dict[str, Any]) -> list[str]:
    """The counts, warnings and files of a scoring run, one line each; `run` is its run.json."""
    from visionflows.scoring.schema import RunResult

    result = RunResult.model_validate(run, strict=False)
    counts = result.counts
    rejected = f", {counts.rejected} rejected" if counts.rejected else ""
    lines = [f"{counts.found} files found: {counts.ok} ok{rejected}, {counts.failed} failed"]
    if not counts.found:
        lines = [f"{result.input}: no images found; the CSV has a header and no rows"]
    rows = [
        *counts.by_label.items(),
        *((name, count) for name, count in counts.by_status.items() if name != "ok"),
        *(
            (f"rows with {name}", count)
            for name, count in counts.flags.items()
            if name not in counts.by_status
        ),
    ]
    if result.find_duplicates:
        rows.append(("seen in training", result.find_duplicates.seen_in_training))
        rows.append(("duplicates of an earlier file", result.find_duplicates.duplicates))
    lines += [f"  {count:>8}  {name}" for name, count in rows]
    lines += [result.mixed] if result.mixed else []
    lines += [f"drift: {line}" for line in (result.drift.warnings if result.drift else ())]
    ignored = counts.ignored_by_ending.items()
    lines += [f"  {count:>8}  {ending}: not an image" for ending, count in ignored]
    pages = (f"{result.folder}{name}" for name in ("report.html", "review.html", "run.json"))
    return [*lines, *(f"{result.output}/{name}" for name in (*result.files, *pages))]


def print_demo(folder: Path, result: dict[str, Any]) -> float:
    """Print the result of the demo; the accuracy on the held-out digits is returned."""
    scores = folder / "scores"
    with (scores / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected, console = result["expected"], Console(highlight=False, soft_wrap=True)
    correct = {row["path"]: row["label"] == expected.get(row["path"]) for row in rows}
    accuracy: float = sum(correct.values()) / len(expected)
    console.print(_accuracy_table(correct, expected))
    failed = [row for row in rows if row["status"] != "ok"]
    console.print(f"accuracy {accuracy:.4f} on {len(expected)} held-out digits")
    found = result["run"]["counts"]["found"]
    console.print(f"{found} files, {len(rows)} rows, {len(failed)} failed:")
    for row in failed:
        console.print(f"  {row['path']}: {row['status']}: {row['error']}")
    console.print("\nOpen these:")
    for name, path in (
        ("training report", f"{result['model']}/report.html"),
        ("scoring report", scores / "report.html"),
        ("review page", scores / "review.html"),
        ("run history", scores / "history.html"),
        ("predictions", scores / "predictions.csv"),
    ):
        console.print(f"  {name:16} {path}")
    return accuracy


def _accuracy_table(correct: dict[str, bool], expected: dict[str, str]) -> Table:
    """The accuracy of each digit, and of all."""
    table = Table("digit")
    table.add_column("files", justify="right")
    table.add_column("correct", justify="right")
    for digit in sorted(set(expected.values())):
        of_digit = [correct[path] for path, label in expected.items() if label == digit]
        table.add_row(digit, str(len(of_digit)), f"{sum(of_digit) / len(of_digit):.1%}")
    table.add_section()
    table.add_row("all", str(len(expected)), f"{sum(correct.values()) / len(expected):.1%}")
    return table
