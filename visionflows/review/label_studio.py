"""Label Studio: export tasks with predictions, import annotations as corrections.

Formats: labelstud.io/guide/task_format and /guide/predictions, labelstud.io/tags/choices (2026).
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import quoteattr

from visionflows.errors import TableError
from visionflows.label_sets import join_labels, split_labels
from visionflows.review.corrections import COLUMNS, Correction, make_correction
from visionflows.storage.name_encoding import decode_name

_URL_SCHEMES = ("", "http", "https")  # Label Studio takes the keys of all others unquoted
CONTROL, OBJECT = "choice", "image"  # as in its template for image classification
NONE = "None of these"


def labeling_config(classes: Iterable[str], multi_label: bool = False) -> str:
    """The labeling configuration of a project as XML: an image and a choice of the classes."""
    choice = "multiple" if multi_label else "single"
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in (*classes, NONE))
    return (
        f'<View>\n  <Image name="{OBJECT}" value="$image"/>\n'
        f'  <Choices name="{CONTROL}" toName="{OBJECT}" choice="{choice}" required="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def to_tasks(rows: Iterable[Correction], prefix: str) -> list[dict[str, Any]]:
    """A task for each row, with the network's label as its prediction.

    The image of a task is `prefix` and path; the path is quoted if the prefix is a URL.
    """
    is_url = urlsplit(prefix).scheme in _URL_SCHEMES
    return [_task(row, prefix, is_url) for row in rows]


def _task(row: Correction, prefix: str, is_url: bool) -> dict[str, Any]:
    path = quote(decode_name(row.path), errors="surrogateescape") if is_url else row.path
    data = {name: getattr(row, name) for name in COLUMNS if name not in ("label", "answer")}
    labels = [*split_labels(row.was)] or [NONE] if row.decisions else [row.was]
    choice = {"type": "choices", "value": {"choices": labels}}
    prediction = {
        "model_version": row.model,
        "score": float(row.confidence or 0),
        "result": [{"from_name": CONTROL, "to_name": OBJECT, **choice}],
    }
    is_scored = row.was or (row.decisions and float(row.confidence or 0))
    predictions = [prediction] if is_scored else []
    return {"data": {"image": f"{prefix}{path}", **data}, "predictions": predictions}


def parse_export(name: str, data: bytes) -> list[Correction]:
    """The corrections in a JSON export of such tasks; skipped tasks are left out.

    Of several annotations of a task, the last updated one counts. Raises TableError.
    """
    try:
        exported = json.loads(data)
    except ValueError as error:
        raise TableError(f"{name}: not JSON ({error}); export the project as JSON") from error
    if not isinstance(exported, list):
        raise TableError(f"{name}: not a list of tasks; export the project as JSON")
    rows = (_correction(name, number, task) for number, task in enumerate(exported, 1))
    return [row for row in rows if row]


def _correction(name: str, number: int, task: Any) -> Correction | None:
    try:
        choices = _choices(task["annotations"])
        cells = {column: str(task["data"].get(column, "")) for column in COLUMNS}
        if not choices:
            return None
        row = make_correction(cells)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TableError(
            f"{name}: task {number} was not made by visionflows ({error!r}); export the tasks of "
            "`visionflows corrections to-label-studio` as JSON"
        ) from error
    if choices == [NONE]:
        return row._replace(label="", answer="empty" if row.decisions else "none")
    if row.decisions and NONE in choices:
        raise TableError(f"{name}: task {number} has labels and {NONE!r}; remove one of the two")
    label = join_labels(choices) if row.decisions else choices[0]
    return row._replace(label=label, answer="right" if label == row.was else "other")


def _choices(annotations: Sequence[dict[str, Any]]) -> list[str]:
    """The choices of the last updated annotation that has some."""
    kept = [one for one in annotations if not one.get("was_cancelled")]
    kept.sort(key=lambda one: str(one.get("updated_at", "")), reverse=True)
    results = (result for one in kept for result in one["result"] if result["type"] == "choices")
    chosen = ([str(choice) for choice in one["value"]["choices"]] for one in results)
    return next(filter(None, chosen), [])
