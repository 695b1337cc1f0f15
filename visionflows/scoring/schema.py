"""What a scoring run writes down: parts/plan.json, a part's record, and run.json.

    from visionflows.scoring.schema import Plan, Record, RunResult
    RunResult.read(place("scores/night").read("run.json")).books.found

Each is one schema with its version; what contradicts itself is not what its schema says.
"""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from visionflows.images.image_status import Status
from visionflows.inference.backend import Backend
from visionflows.monitoring.run_records import Drift, Fresh
from visionflows.versioned_json import Count, JsonObject, Sha256, VersionedJson

HISTOGRAM_BINS = 20
FAILED = "failed/"  # where a run that failed leaves what it has, beside the last good result


class JobSettings(JsonObject):
    """The settings that show in a row, or in how rows are cut into parts."""

    precision: str
    batch_size: Count
    max_pixels: Count
    top: Count
    shard_size: Count
    decode: str | None = None  # if it is not the model's own, which is in the model's digest
    exif: bool | None = None  # whether there are its columns
    raw: bool | None = None  # whether probabilities are not calibrated, of a model that could be
    min_precision: float | None = None  # and from which confidence on each class has it
    thresholds: tuple[float | None, ...] | None = None
    find_duplicates: bool | None = None  # and those of look-alikes
    outliers: bool | None = None  # whether there are columns that say how odd a picture is
    reject_outliers: bool | None = None  # and whether odd ones have no label


class Plan(VersionedJson):
    """parts/plan.json: the job that an output is being filled for; `job` is its digest.

    While the input is still being listed, `listing` is empty, and no file counted. In version 1
    `input` was as it was typed, and `listing` changed with sizes and times as well.
    """

    VERSION = 2

    schema_version: int = 1
    input: str
    listing: str
    files: Count
    model: str
    classes: tuple[str, ...]
    settings: JobSettings
    job: Sha256


class Counts(JsonObject):
    """The books: how many files were found, and what became of each. They balance.

    `rejected` are pictures of another kind that were to have no label: seen, and no failure.
    """

    found: Count
    ok: Count
    failed: Count
    rejected: Count = 0
    carried_over: Count
    by_status: dict[Status, Annotated[int, Field(gt=0)]]
    by_label: dict[str, Annotated[int, Field(gt=0)]]
    flags: dict[str, Count] = Field(default_factory=dict)  # rows by the column that says True

    @model_validator(mode="after")
    def _balance(self) -> Self:
        if not (
            self.found == self.ok + self.failed + self.rejected == sum(self.by_status.values())
            and self.rejected == self.by_status.get("outlier", 0)
            and self.ok == self.by_status.get("ok", 0) == sum(self.by_label.values())
        ):
            raise ValueError("the books do not balance")
        return self


class BackendShare(Backend):
    """A backend with the number of files it computed, and the parts they are in (`0-3, 7`)."""

    files: Count
    parts: str


class Record(VersionedJson):
    """parts/part-00000.json: that the part beside it is whole, and its share of the books.

    `sha256` is that of its .csv, `files` that of its .files, where each file is said to be
    computed by one of `backends`; `shard` is a digest of their names, `job` that of the plan
    before its files are known (or, in what an earlier version wrote, after). Version 1 had neither
    `files` nor `backends`, and a `shard` that changed with sizes and times as well.
    """

    VERSION = 2

    schema_version: int = 1
    job: Sha256
    shard: str
    bytes: Count
    sha256: Sha256
    files: Sha256 | None = None
    backends: tuple[Backend, ...] = ()
    counts: Counts
    histogram: list[Count] = Field(min_length=HISTOGRAM_BINS, max_length=HISTOGRAM_BINS)
    fresh: Fresh | None = None  # of the rows that were computed for it; a version before had none


class RunCounts(Counts):
    """The books of a run: beside them files that are no pictures, and what --only-new met."""

    ignored: Count = 0
    ignored_by_ending: dict[str, Count] = Field(default_factory=dict)
    changed: Count = 0
    vanished: Count = 0


class RunModel(JsonObject):
    """The model that a run scored with."""

    name: str
    version: str
    architecture: str
    classes: list[str]
    image_size: Count
    digest: str
    storage: str


class Review(JsonObject):
    """What is left to people: trust.thresholds. `share_told` is their share of the validation
    images, which was told before the run; None is a class of which every row is."""

    min_precision: float
    share_told: float
    thresholds: dict[str, float | None]
    together: tuple[str, ...] = ()


class Timings(JsonObject):
    """Where a run's time went: seconds, those of each stage per 1,000 images, and what limits."""

    seconds: float
    scored: Count
    images_per_second: float
    per_1000: dict[str, float]
    limit: str
    forwarded: Count


class NodeTimings(JsonObject):
    """What a node of a cluster did: files, and the seconds that its actors took for them."""

    files: Count
    seconds: float


class DuplicateCounts(JsonObject):
    """How many rows are of a picture of the training, and of one that is in a row before."""

    seen_in_training: Count
    duplicates: Count


class WrittenFile(JsonObject):
    """A file of a result."""

    bytes: Count
    sha256: Sha256


class RunResult(VersionedJson):
    """run.json: what a run did, with what, and what it left; written last."""

    model_config = ConfigDict(extra="allow")  # as in model.json: others may have more to say
    VERSION = 1

    run: str
    status: Literal["done", "failed"]
    input: str
    root: str = ""  # where the paths of the rows begin; the version before did not say it
    output: str
    job: str = ""  # that of its parts/plan.json
    model: RunModel
    settings: JobSettings
    device: str
    limits: dict[str, int] = Field(default_factory=dict)
    passed_over: dict[str, int] = Field(default_factory=dict)
    backends: list[BackendShare] = Field(default_factory=list)
    counts: RunCounts
    review: Review | None = None
    confidence_histogram: list[Count]
    timings: Timings
    find_duplicates: DuplicateCounts | None = None
    nodes: dict[str, NodeTimings] = Field(default_factory=dict)  # of a cluster
    started: str
    ended: str
    files: dict[str, WrittenFile]
    versions: dict[str, str]
    drift: Drift | None = None  # of the night whose rows came last; a version before had none

    @property
    def folder(self) -> str:
        """Where the files of the result lie in the output: above all others, or in `failed/`."""
        return "" if "predictions.csv" in self.files else FAILED

    @property
    def mixed(self) -> str:
        """What computed the rows, where that was not one thing alone; else empty."""
        if len(self.backends) < 2:
            return ""
        shares = (f"{b.files} files (parts {b.parts}) by {b.description}" for b in self.backends)
        return f"computed by {len(self.backends)} backends: {'; '.join(shares)}"
