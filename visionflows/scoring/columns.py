"""The columns of predictions.csv, and a row as text."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from visionflows.escaping import printable, utf8
from visionflows.images import exif
from visionflows.inference.decoding import Row
from visionflows.inference.labels import label_and_confidence
from visionflows.scoring.schema import JobSettings
from visionflows.storage.name_encoding import encode_name

COLUMNS = ("path", "status", "label", "confidence", "error")  # then `p_<class>` of each class
DUPLICATE_COLUMNS = ("seen_in_training", "duplicate_of")
_OUTLIER = "an outlier: its outlier_score is {}, and the limit is 1"


def header(classes: Sequence[str], settings: JobSettings) -> list[str]:
    """The names of the columns, in order."""
    top = [name for k in range(1, settings.top + 1) for name in (f"top_{k}", f"top_{k}_p")]
    return [
        *COLUMNS,
        *(f"p_{name}" for name in classes),
        *top,
        *(exif.COLUMNS if settings.exif else ()),
        *(DUPLICATE_COLUMNS if settings.find_duplicates else ()),
        *(("outlier_score",) if settings.outliers else ()),
        *flag_columns(settings),
    ]


def flag_columns(settings: JobSettings) -> list[str]:
    """The columns that are True or False; they are the last ones."""
    outlier = ["outlier"] if settings.outliers else []
    return [*outlier, *(["review"] if settings.thresholds else [])]


def format_row(row: Row, classes: Sequence[str], settings: JobSettings) -> list[str]:
    """A row as text, a cell for each column."""
    path, columns = encode_name(row.name), len(header(classes, settings))
    if row.status != "ok" or row.probabilities is None:
        return [path, row.status, "", "", printable(row.error), *[""] * (columns - len(COLUMNS))]
    values = row.probabilities
    label, confidence = label_and_confidence(row, classes)
    probabilities = [f"{value:.6f}" for value in values.tolist()]  # float32 has seven digits
    order = (-values).argsort(kind="stable")[: settings.top]
    top = [cell for index in order for cell in (classes[index], probabilities[index])]
    scored = settings.outliers and row.outlier_score is not None
    score = [f"{row.outlier_score:.4f}"] if scored else []
    outlier = bool(score) and float(score[0]) > 1
    flags = map(str, _flags(row, f"{confidence:.6f}", outlier, settings))
    last = [*row.extra_cells, *score, *flags]
    if outlier and settings.reject_outliers:
        blank = [""] * (len(probabilities) + len(top))
        return [path, "outlier", "", "", _OUTLIER.format(score[0]), *blank, *last]
    return [path, "ok", label, f"{confidence:.6f}", "", *probabilities, *top, *last]


def _flags(row: Row, confidence: str, outlier: bool, settings: JobSettings) -> Iterator[bool]:
    """The values of `flag_columns`."""
    if settings.outliers:
        yield outlier
    if settings.thresholds:
        threshold = settings.thresholds[row.label]  # of several labels all share one
        yield outlier or threshold is None or float(confidence) < threshold


def csv_line(cells: Iterable[str]) -> bytes:
    """A row as a line of CSV (RFC 4180)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return utf8(text.getvalue())


def csv_cells(line: str) -> list[str]:
    """The cells of one line of CSV."""
    (cells,) = csv.reader(io.StringIO(line, newline=""))
    return cells


def csv_rows(data: bytes) -> Iterator[list[str]]:
    """The rows of a part or of predictions.csv, without the header."""
    # Decoded as it is read: a thousand rows of ten thousand classes are 90 MB.
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""))
    next(reader)
    return reader
