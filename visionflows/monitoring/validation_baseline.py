"""What a model answered on its validation images, as far as its bundle says.

    from visionflows.monitoring.validation_baseline import on_validation
    on_validation(load(find("pets", "store"))).labels

`validation.csv` (path, label, predicted, confidence) says all of it; without it confusion.csv, or
the matrix in a model.json of before, says what was predicted how often.
"""

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator

from visionflows.errors import StorageError
from visionflows.hashing import sha256_of_file
from visionflows.models.artifact import VALIDATION, Model
from visionflows.monitoring.run_records import Counting, Tally, twentieth

log = logging.getLogger("visionflows.history")


def on_validation(model: Model, raw: bool = False) -> Tally | None:
    """The labels that it gave, and how sure it was; None where the bundle does not say."""
    found, sure = Counting(), "raw" if raw else "confidence"
    try:
        for row in _rows(model, VALIDATION):
            found.add(labels=row["predicted"], confidence=twentieth(float(row[sure])))
        if not found.tally().ok:
            counts = _predicted(model)
            found.add_tally(Tally(labels={name: count for name, count in counts.items() if count}))
    except (OSError, KeyError, TypeError, ValueError, csv.Error, StorageError) as error:
        log.warning("%s: does not say what it answered on validation: %s", model.storage, error)
        return None
    told = found.tally()
    return told if told.ok else None


def _predicted(model: Model) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in _rows(model, "confusion.csv"):
        counts[row["predicted"]] += int(row["images"])
    for line in model.info.metrics.confusion:
        counts.update(dict(zip(model.classes, line, strict=True)))
    return counts


def _rows(model: Model, name: str) -> Iterator[dict[str, str]]:
    """The rows of a file of the bundle; none where it has none. Raises ValueError where it is not
    what was published."""
    if name not in model.info.files:
        return
    # The one is on this machine since the run began, whatever has become of the store.
    where = model.files if name == VALIDATION else model.storage
    with where.open_read(name) as file:
        if sha256_of_file(file) != model.info.files[name]:
            raise ValueError(f"{name} was changed since it was published")
    with where.open_read(name) as file:
        yield from csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))
