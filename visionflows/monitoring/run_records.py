"""What a night was: a small record of each scoring run, kept beside its output, none lost.

    from visionflows.monitoring.run_records import read_nights
    read_nights(place("scores/night"))[-1].tally.labels        # the newest comes last

    <output>/history/<time>-<digest>.json

A night is the rows that are new in it: not those taken over by --only-new, nor those of a part that
an earlier run has left and some record counts. The digest is one of its model and the contents of
its files: a run that is repeated has the same name, and replaces its own record.
"""

import logging
from collections import Counter
from typing import Literal

from pydantic import ConfigDict, Field

from visionflows.storage.base import Entry, Storage
from visionflows.versioned_json import Count, JsonObject, SchemaError, Sha256, VersionedJson

log = logging.getLogger("visionflows.history")

FOLDER = "history"
MOST = 400  # nights that are read, and shown
Counts = dict[str, Count]
_NO_MARKS = str.maketrans("", "", "-:.")


class Tally(JsonObject):
    """How many files there are of each kind. `confidence` is in twentieths from 0 (`19`: 0.95 and
    more), `sizes` and `pixels` in powers of two: `20` for 2**19 to 2**20 - 1 bytes, or pixels.

    Sizes of files that a list named, and pixels without --exif, are not known and not counted;
    `outliers` is empty where the rows do not say.
    """

    statuses: Counts = Field(default_factory=dict)
    labels: Counts = Field(default_factory=dict)
    confidence: Counts = Field(default_factory=dict)
    sizes: Counts = Field(default_factory=dict)
    pixels: Counts = Field(default_factory=dict)
    endings: Counts = Field(default_factory=dict)
    outliers: Counts = Field(default_factory=dict)

    def of(self, field: str) -> Counts:
        """The counts of a field, by its name."""
        counts: Counts = getattr(self, field)
        return counts

    @property
    def found(self) -> int:
        """How many files there are."""
        return sum(self.statuses.values())

    @property
    def ok(self) -> int:
        """How many of them have a label."""
        return sum(self.labels.values())

    @property
    def sure(self) -> float | None:
        """The mean confidence, within a fortieth; None where nothing has a label."""
        counts = self.confidence
        middles = sum((int(at) + 0.5) / 20 * count for at, count in counts.items())
        return middles / total if (total := sum(counts.values())) else None


class Fresh(JsonObject):
    """What is new in a part: by which run it was written, and the rows that run has computed for
    it; `contents` changes with any of their names and files."""

    run: str
    contents: Sha256
    tally: Tally


class Finding(JsonObject):
    """One thing that was looked at: against `nights` nights of `files` files, or validation.

    `effect` is a share of the files, and warns from `threshold` on (None: it is only told);
    `p_value` is corrected for all that was looked at that night.
    From a night that says `anew` on, nights are compared with it, and none before.
    """

    quantity: str
    against: Literal["history", "validation"]
    run_records: Count
    files: Count
    effect: float
    threshold: float | None
    p_value: float
    warns: bool
    anew: bool = False
    said: str


class Drift(JsonObject):
    """What a night was found to be, beside those before it; `night` is when it began."""

    run_record: str
    alpha: float
    findings: list[Finding] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """A line for each finding that warns."""
        return [finding.said for finding in self.findings if finding.warns]

    def finding(self, quantity: str, against: str = "history") -> Finding | None:
        """What was found of a quantity; None where it was not looked at."""
        named = (f for f in self.findings if (f.quantity, f.against) == (quantity, against))
        return next(named, None)


class RecordedModel(JsonObject):
    """The model of a night."""

    name: str
    version: str
    digest: str
    storage: str


class Audit(JsonObject):
    """The accuracy that people found in a random sample of a night's rows, with its interval."""

    accuracy: float
    low: float
    high: float
    images: Count


class RunRecord(VersionedJson):
    """A record of a night; `started` and `ended` are ISO 8601 in UTC, with milliseconds.

    `contents` is the digest of its model and files, and `runs` are all those whose parts lay in the
    output by then, so that no part is counted twice. `settings` are those that were on, of the ones
    by which the same files have other figures: raw, reject_outliers.
    """

    model_config = ConfigDict(extra="allow")
    VERSION = 1

    started: str
    ended: str
    status: Literal["done", "failed"]
    input: str
    model: RecordedModel
    settings: list[str] = Field(default_factory=list)
    contents: Sha256
    runs: list[str]
    tally: Tally
    seconds: float
    audit: Audit | None = None
    drift: Drift | None = None

    @property
    def warned_of(self) -> list[str]:
        """The quantities that its warnings are of."""
        found = self.drift.findings if self.drift else ()
        return list(dict.fromkeys(one.quantity for one in found if one.warns))

    @property
    def kind(self) -> tuple[str, list[str]]:
        """What nights must have in common to be compared."""
        return self.model.version, self.settings

    def is_of(self, contents: str, settings: list[str]) -> bool:
        """Whether it is the night of these contents, looked at in this way."""
        return (self.contents, self.settings) == (contents, settings)

    @property
    def name(self) -> str:
        """The file's name in the history."""
        time = self.started.partition("+")[0].translate(_NO_MARKS)
        return f"{time}Z-{self.contents[:12]}.json"


class Counting:
    """A tally that grows."""

    def __init__(self) -> None:
        self._found: dict[str, Counter[str]] = {name: Counter() for name in Tally.model_fields}

    def add(self, **kinds: str) -> None:
        """Count a file, by its kind of each; one that is empty is not known."""
        for name, kind in kinds.items():
            if kind:
                self._found[name][kind] += 1

    def add_tally(self, tally: Tally) -> None:
        """Count all of these."""
        for name, counts in tally:
            self._found[name].update(counts)

    def tally(self) -> Tally:
        """What was counted, in a fixed order."""
        return Tally(**{name: dict(sorted(kinds.items())) for name, kinds in self._found.items()})


def twentieth(confidence: float) -> str:
    """The bin that a confidence is counted in."""
    return str(min(int(confidence * 20), 19))


def read_run_records(output: Storage) -> list[RunRecord]:
    """The newest nights of an output, the oldest of them first; a file that is none is logged."""
    there = output.sub(FOLDER)
    names = sorted(name for name in there.names() if name.endswith(".json"))[-MOST:]
    run_records = []
    for name, data in zip(
        names, there.read_many(Entry(name, 0, "") for name in names), strict=True
    ):
        try:
            if isinstance(data, OSError):
                raise data
            run_records.append(RunRecord.read(data))
        except (SchemaError, OSError) as error:
            log.warning("%s/%s: no record of a night: %s", there, name, error)
    return run_records


def records_below(where: Storage) -> list[RunRecord]:
    """The newest nights of an output, or of all outputs that lie in a folder, the oldest first."""
    if run_records := read_run_records(where):
        return run_records
    found = [
        run_record for name in where.names() for run_record in read_run_records(where.sub(name))
    ]
    return sorted(found, key=lambda run_record: run_record.started)[-MOST:]


def keep(output: Storage, run_record: RunRecord) -> None:
    """Write a record, in place of one of the same contents."""
    output.write(f"{FOLDER}/{run_record.name}", run_record.text())


def note_audit(output: Storage, name: str, audit: Audit) -> RunRecord:
    """A record with what people found of its night, which is kept. Raises FileNotFoundError,
    SchemaError."""
    run_record = RunRecord.read(output.read(f"{FOLDER}/{name}")).model_copy(update={"audit": audit})
    keep(output, run_record)
    return run_record
