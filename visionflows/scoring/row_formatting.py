"""A row of predictions.csv: what was found of a file, as the text of each column of a job.

from visionflows.scoring.row_formatting import cells_of
cells_of(row, job)               # a cell for each of job.header
"""

from collections.abc import Iterator

from visionflows.inference.decoding import Row
from visionflows.scoring.job import COLUMNS, Job
from visionflows.storage.name_encoding import encode_name

_ODD = "not the kind of picture that the model was trained on: oddness {}, and 1 is the most"


def format_row(row: Row, job: Job) -> list[str]:
    """A row as text. Six decimals: a float32 softmax has about seven digits to give."""
    path = encode_name(row.name)
    if row.status != "ok" or row.probabilities is None:
        blank = len(job.header) - len(COLUMNS)
        return [path, row.status, "", "", row.error, *("" for _ in range(blank))]
    values = row.probabilities
    best = int(values.argmax())
    texts = [f"{value:.6f}" for value in values.tolist()]
    order = (-values).argsort(kind="stable")[: job.settings.top]
    top = [cell for at in order for cell in (job.classes[at], texts[at])]
    odd = (
        [f"{row.outlier_score:.4f}"]
        if row.outlier_score is not None and job.settings.outliers
        else []
    )
    outlier = bool(odd) and float(odd[0]) > 1
    last = [*row.about, *odd, *map(str, _flags(best, float(texts[best]), outlier, job))]
    if outlier and job.settings.reject_outliers:
        blank = len(texts) + len(top)
        return [path, "outlier", "", "", _ODD.format(odd[0]), *("" for _ in range(blank)), *last]
    return [path, "ok", job.classes[best], texts[best], "", *texts, *top, *last]


def _flags(best: int, confidence: float, outlier: bool, job: Job) -> Iterator[bool]:
    """What the columns of `job.flags` say of a row."""
    if job.settings.outliers:
        yield outlier
    if thresholds := job.settings.thresholds:
        least = thresholds[best]
        yield outlier or least is None or confidence < least
