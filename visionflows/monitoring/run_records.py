"""Run records: a file `history/<time>-<digest>.json` for each scoring run, kept in its output.

A record covers the rows that are new in a run: no rows reused by --only-new, and no parts that an
earlier record counts.
"""

import logging
import re
from typing import Literal

from pydantic import ConfigDict, Field

from visionflows.storage.base import Entry, Storage
from visionflows.versioned_json import Count, JsonObject, SchemaError, Sha256, VersionedJson

log = logging.getLogger("visionflows.history")

FOLDER = "history"
MAX_RECORDS = 400  # that are read and shown
Counts = dict[str, Count]


class Histograms(JsonObject):
    """Numbers of files by value, for each quantity.

    `confidence` is in twentieths from 0 (`19` is 0.95 and more). `sizes` and `pixels` are in powers
    of two: `20` is 2**19 to 2**20 - 1 bytes or pixels. Sizes of objects named by a list, and pixels
    without --exif, are unknown and not counted. `outliers` is empty for models that detect none.
    """

    statuses: Counts = Field(default_factory=dict)
    labels: Counts = Field(default_factory=dict)
    confidence: Counts = Field(default_factory=dict)
    sizes: Counts = Field(default_factory=dict)
    pixels: Counts = Field(default_factory=dict)
    endings: Counts = Field(default_factory=dict)
    outliers: Counts = Field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many files there are."""
        return sum(self.statuses.values())

    @property
    def labelled(self) -> int:
        """How many files have a label."""
        return sum(self.labels.values())

    @property
    def mean_confidence(self) -> float | None:
        """The mean confidence, within 1/40; None if no file has a label."""
        counts = self.confidence
        middles = sum((int(at) + 0.5) / 20 * count for at, count in counts.items())
        return middles / total if (total := sum(counts.values())) else None


class NewRowCounts(JsonObject):
    """The rows of a part that a run computed; `contents` changes with their names and files."""

    run: str  # its start time
    contents: Sha256
    histograms: Histograms


class Finding(JsonObject):
    """The drift test of one quantity, against `runs` earlier runs of `files` files or validation.

    `effect` is a share of the files, and warns from `threshold` on (None: never). `p_value` is
    corrected for all tests of the run. `resets_baseline` ends comparison with earlier runs.
    """

    quantity: str
    against: Literal["history", "validation"]
    runs: Count
    files: Count
    effect: float
    threshold: float | None
    p_value: float
    warns: bool
    resets_baseline: bool
    description: str


class Drift(JsonObject):
    """The drift tests of a run; `run` is its start time."""

    run: str
    alpha: float
    findings: list[Finding]
    notes: list[str]

    @property
    def warnings(self) -> list[str]:
        """A line for each finding that warns."""
        return [finding.description for finding in self.findings if finding.warns]

    def finding(self, quantity: str, against: str = "history") -> Finding | None:
        """The finding of a quantity; None if it was not tested."""
        named = (f for f in self.findings if (f.quantity, f.against) == (quantity, against))
        return next(named, None)


class RecordedModel(JsonObject):
    """The model of a run; with `multi_label`, `labels` of a histogram are all those of a file."""

    name: str
    version: str
    digest: str
    storage: str
    multi_label: bool = False


class Audit(JsonObject):
    """The accuracy that people found in a random sample of a run's rows, with its interval."""

    accuracy: float
    low: float
    high: float
    images: Count


class RunRecord(VersionedJson):
    """The record of a run; `started` and `ended` are ISO 8601 in UTC, with milliseconds.

    `contents` is the digest of its model and files; `settings` are those of raw and reject_outliers
    that were on. `runs` are the start times of all runs with parts in the output.
    """

    model_config = ConfigDict(extra="allow")
    VERSION = 1

    started: str
    ended: str
    status: Literal["done", "failed"]
    input: str
    model: RecordedModel
    settings: list[str]
    contents: Sha256
    runs: list[str]
    histograms: Histograms
    seconds: float
    audit: Audit | None = None
    drift: Drift | None = None

    @property
    def drifted(self) -> list[str]:
        """The quantities with a warning."""
        found = self.drift.findings if self.drift else ()
        return list(dict.fromkeys(one.quantity for one in found if one.warns))

    @property
    def name(self) -> str:
        """The file's name in the history."""
        time = re.sub(r"[-:.]|\+.*", "", self.started)
        return f"{time}Z-{self.contents[:12]}.json"


def confidence_bin(confidence: float) -> str:
    """The bin of `Histograms.confidence` for a confidence."""
    return str(min(int(confidence * 20), 19))


def read_run_records(output: Storage) -> list[RunRecord]:
    """The newest run records of an output, oldest first; an unreadable one is only logged."""
    folder = output.sub(FOLDER)
    names = sorted(name for name in folder.names() if name.endswith(".json"))[-MAX_RECORDS:]
    contents = folder.read_many(Entry(name, 0, "") for name in names)
    records = []
    for name, data in zip(names, contents, strict=True):
        try:
            if isinstance(data, OSError):
                raise data
            records.append(RunRecord.read(data))
        except (SchemaError, OSError) as error:
            log.warning("%s/%s: not a run record: %s", folder, name, error)
    return records


def find_run_records(location: Storage) -> list[RunRecord]:
    """The newest run records of an output, or of all outputs in a folder, oldest first."""
    if records := read_run_records(location):
        return records
    found = [one for name in location.names() for one in read_run_records(location.sub(name))]
    return sorted(found, key=lambda record: record.started)[-MAX_RECORDS:]


def save_run_record(output: Storage, record: RunRecord) -> None:
    """Write a record; it replaces one of the same contents."""
    output.write(f"{FOLDER}/{record.name}", record.text())
