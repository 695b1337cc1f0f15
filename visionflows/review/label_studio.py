"""Label Studio's JSON, out and in: tasks with what the network said, and corrections of answers.

    from visionflows.review.label_studio import corrections_in, labelling, tasks
    tasks(corrections, "s3://inbox/")                    # to import there
    labelling(["cat", "dog"])                            # the labelling interface of the project
    corrections_in("export.json", data)                  # of its export as JSON

Formats: labelstud.io/guide/task_format and /guide/predictions, labelstud.io/tags/choices (2026).
A task's `data` carries all that corrections.csv says beside the answer, and comes back as it was.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import quoteattr

from visionflows.errors import TableError
from visionflows.review.corrections import COLUMNS, Correction

_ADDRESSES = ("", "http", "https")  # Label Studio takes keys of all others, buckets, as they are
CONTROL, OBJECT = "choice", "image"  # as in its template for image classification
NONE = "None of these"


def labelling(classes: Iterable[str]) -> str:
    """The labelling interface of a project, as XML: an image, and one choice of the classes."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in (*classes, NONE))
    return (
        f'<View>\n  <Image name="{OBJECT}" value="$image"/>\n'
        f'  <Choices name="{CONTROL}" toName="{OBJECT}" choice="single" required="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def tasks(rows: Iterable[Correction], prefix: str) -> list[dict[str, Any]]:
    """A task for each row, its label the prediction; an image's address is `prefix` and path, as a
    URL has it, or as it is where the prefix is that of a bucket."""
    return [_task(row, prefix) for row in rows]


def _task(row: Correction, prefix: str) -> dict[str, Any]:
    data = {name: getattr(row, name) for name in COLUMNS if name not in ("label", "answer")}
    result = {"from_name": CONTROL, "to_name": OBJECT, "type": "choices"}
    said = {
        "model_version": row.model,
        "score": float(row.confidence or 0),
        "result": [{**result, "value": {"choices": [row.was]}}],
    }
    path = quote(row.path) if urlsplit(prefix).scheme in _ADDRESSES else row.path
    return {
        "data": {"image": f"{prefix}{path}", **data},
        "predictions": [said] if row.was else [],
    }


def corrections_in(where: str, data: bytes) -> list[Correction]:
    """What people said in an export of such tasks, read from `where`; skipped ones are left out.

    Of several annotations of a task the one that was updated last counts. Raises TableError.
    """
    try:
        exported = json.loads(data)
    except ValueError as error:
        raise TableError(f"{where}: not JSON ({error}); export the project as JSON") from error
    if not isinstance(exported, list):
        raise TableError(f"{where}: no list of tasks; export the project as JSON")
    rows = (_correction(where, number, task) for number, task in enumerate(exported, 1))
    return [row for row in rows if row]


def _correction(where: str, number: int, task: Any) -> Correction | None:
    try:
        label = _answer(task["annotations"])
        told = {name: str(task["data"].get(name, "")) for name in COLUMNS}
        if label is None:
            return None
        row = Correction._make([*told.values(), ""])._replace(drawn=int(told["drawn"] or 0))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TableError(
            f"{where}: task {number} is none that visionflows made ({error!r}); export the tasks "
            "of `visionflows corrections to-label-studio` as JSON"
        ) from error
    if label == NONE:
        return row._replace(label="", answer="none")
    return row._replace(label=label, answer="right" if label == row.was else "other")


def _answer(annotations: Sequence[dict[str, Any]]) -> str | None:
    """The choice of the annotation that was updated last; None where nothing was chosen."""
    made = [one for one in annotations if not one.get("was_cancelled")]
    for one in sorted(made, key=lambda one: str(one.get("updated_at", "")), reverse=True):
        for result in one["result"]:
            if result["type"] == "choices" and result["value"]["choices"]:
                return str(result["value"]["choices"][0])
    return None
