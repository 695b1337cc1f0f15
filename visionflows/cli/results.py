"""What the commands print of a scoring run and of the demo."""

from pathlib import Path
from typing import Any

from visionflows.cli.terminal import Rows, parse_facts, print_lines, print_parts
from visionflows.reports.rendering import render
from visionflows.scoring.predict import Prediction
from visionflows.scoring.schema import RunResult


def summary_lines(run: dict[str, Any]) -> list[str]:
    """The counts, warnings and files of a scoring run, one line each; `run` is its run.json."""
    result = RunResult.model_validate(run, strict=False)
    return render("run.txt", run=result).splitlines()


def evaluation_lines(result: dict[str, Any]) -> list[str]:
    """The metrics, counts and files of an evaluation, one line each."""
    return render("evaluation.txt", **result).splitlines()


def prediction_line(found: Prediction, multi_label: bool) -> str:
    """The label of an image, its index and the probabilities; or all its labels and indices.

    If it has none, its status and why.
    """
    if found.status != "ok":
        return f"{found.path}: {found.status}: {found.error}"
    known = [*found.probabilities]
    index: Any = [known.index(label) for label in found.labels]
    label: Any = [*found.labels] if multi_label else found.label
    rounded = [round(value, 4) for value in found.probabilities.values()]
    is_outlier = found.outlier_score is not None and found.outlier_score > 1
    suffix = f" outlier (score {found.outlier_score:.2f})" if is_outlier else ""
    return f"{found.path}: {(label, index if multi_label else index[0], rounded)}{suffix}"


def print_preview(input: str, model: str, output: str, store: str, settings: Any) -> None:
    """Print what a scoring run would do."""
    from visionflows.inference import open_engine
    from visionflows.scoring.local_run import LocalRun

    run = LocalRun(input, output, open_engine(model, store, settings), settings, store)
    for name, value in run.preview().items():
        print_lines(f"{name:10} {value:,}" if isinstance(value, int) else f"{name:10} {value}")


def print_demo(folder: Path, result: dict[str, Any]) -> None:
    """Print the result of the demo: the accuracy on the held-out digits, counts and pages."""
    import pandas as pd

    scores, expected = folder / "scores", pd.Series(result["expected"])
    rows = pd.read_csv(scores / "predictions.csv", dtype=str, keep_default_na=False)
    correct = rows.set_index("path").label.reindex(expected.index) == expected
    page = render(
        "demo.txt",
        accuracy=correct.mean(),
        rows=rows.to_dict("records"),
        scores=scores,
        **result,
    )
    counts, pages = page.split("\n# ")
    digits = [*correct.groupby(expected), ("all", correct)]
    cells = [(str(name), str(len(one)), f"{one.mean():.1%}") for name, one in digits]
    table = Rows(("digit", "files", "correct"), cells, numbers=("files", "correct"))
    print_parts(table, counts, parse_facts(pages))
