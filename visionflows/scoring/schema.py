"""Files of a scoring run: the record of a part, and run.json. job.Job is parts/plan.json."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from visionflows.images.image_status import Status
from visionflows.inference.engine import Backend
from visionflows.monitoring.run_records import Drift, NewRowCounts
from visionflows.versioned_json import Count, JsonObject, Sha256, VersionedJson

HISTOGRAM_BINS = 20
FAILED = "failed/"  # folder of a failed run's result, beside the last good result


class JobSettings(JsonObject):
    """The settings that change rows, or how rows are cut into parts."""

    precision: str
    batch_size: Count
    max_pixels: Count
    top: Count
    shard_size: Count
    decode: str | None = Field(None, description="Set if it overrides the model's own decoding")
    exif: bool | None = Field(None, description="Whether rows have the columns of --exif")
    raw: bool | None = Field(None, description="Whether probabilities are not calibrated")
    min_precision: float | None = Field(None, description="The precision of --min-precision")
    thresholds: tuple[float | None, ...] | None = None  # smallest confidence of each class for it
    find_duplicates: bool | None = Field(None, description="Whether rows have duplicate columns")
    outliers: bool | None = Field(None, description="Whether rows have outlier columns")
    reject_outliers: bool | None = Field(None, description="Whether outliers have no label")


class Counts(JsonObject):
    """How many files were found, and how many have each status and label."""

    found: Count = Field(description="Image files in the input")
    ok: Count = Field(description="Files with a label")
    failed: Count = Field(description="Files that could not be scored")
    rejected: Count = Field(0, description="Outliers without a label (--reject-outliers)")
    reused: Count = Field(description="Rows reused from an earlier run (--only-new)")
    by_status: dict[Status, Annotated[int, Field(gt=0)]]
    by_label: dict[str, Annotated[int, Field(gt=0)]]
    flags: dict[str, Count] = Field({}, description="True values in columns `outlier`, `review`")

    @model_validator(mode="after")
    def _account_for_every_file(self) -> Self:
        if not (
            self.found == self.ok + self.failed + self.rejected == sum(self.by_status.values())
            and self.rejected == self.by_status.get("outlier", 0)
            and self.ok == self.by_status.get("ok", 0) == sum(self.by_label.values())
        ):
            raise ValueError("the counts do not account for every file")
        return self


class BackendShare(Backend):
    """A backend with the number of files it computed, and the parts they are in (`0-3, 7`)."""

    files: Count
    parts: str


class PartRecord(VersionedJson):
    """parts/part-00000.json: written last, so a part that has one is complete."""

    VERSION = 1

    job: Sha256 = Field(description="Digest of the plan before its files were known")
    shard: str = Field(description="Digest of the names of the files")
    bytes: Count = Field(description="Size of the .csv")
    sha256: Sha256 = Field(description="SHA-256 of the .csv")
    files: Sha256 = Field(description="SHA-256 of the .files")
    backends: tuple[Backend, ...] = Field(description="What computed the rows")
    counts: Counts
    histogram: list[Count] = Field(min_length=HISTOGRAM_BINS, max_length=HISTOGRAM_BINS)
    new_rows: NewRowCounts | None = Field(None, description="Statistics of the rows that are new")


class RunCounts(Counts):
    """The counts of a run."""

    ignored: Count = Field(0, description="Files that are no images")
    ignored_by_ending: dict[str, Count] = Field({}, description="The same, by file ending")
    changed: Count = Field(0, description="Files that changed since the last run (--only-new)")
    vanished: Count = Field(0, description="Files of the last run that are gone (--only-new)")


class RunModel(JsonObject):
    """The model that a run scored with."""

    name: str
    version: str
    architecture: str
    classes: list[str]
    multi_label: bool = Field(False, description="Whether a photo gets several labels, or none")
    image_size: Count
    digest: str
    storage: str = Field(description="Location of the model artifact")


class Review(JsonObject):
    """Which rows people should review, by --min-precision."""

    min_precision: float
    expected_share: float = Field(description="Share of validation images below the thresholds")
    thresholds: dict[str, float | None] = Field(description="By class; null: review every row")
    shared_threshold: tuple[str, ...] = Field((), description="Classes that share a threshold")


class Timings(JsonObject):
    """Where the time of a run went."""

    seconds: float = Field(description="Wall-clock seconds of the run")
    scored: Count = Field(description="Files scored, without reused rows")
    images_per_second: float
    seconds_per_1000: dict[str, float] = Field(description="Seconds of each stage per 1,000 images")
    bottleneck: str = Field(description="The slowest stage, in a sentence")
    forwarded: Count = Field(description="Images that went through the network")


class NodeTimings(JsonObject):
    """Files that a cluster node scored, and the seconds its actors spent on them."""

    files: Count
    seconds: float


class DuplicateCounts(JsonObject):
    """Rows with a value in the columns of --find-duplicates."""

    seen_in_training: Count
    duplicates: Count


class WrittenFile(JsonObject):
    """A file of a result."""

    bytes: Count
    sha256: Sha256


class RunResult(VersionedJson):
    """run.json: written last, so an output that has one is complete."""

    model_config = ConfigDict(extra="allow")  # as in model.json: other programs may add keys
    VERSION = 1

    run: str = Field(description="Name of the output folder")
    status: Literal["done", "failed"] = Field(description="failed: over --max-error-rate")
    input: str = Field(description="Folder, prefix or list that was scored")
    root: str = Field(description="Location that paths in predictions.csv are relative to")
    output: str
    job: Sha256 = Field(description="Digest of input, file names, model and settings")
    model: RunModel
    settings: JobSettings
    device: str
    limits: dict[str, int] = Field(description="Limits beyond which a file is too_large")
    skipped: dict[str, int] = Field(description="Files and folders that are no input, by kind")
    backends: list[BackendShare] = Field(description="Devices and versions that computed rows")
    counts: RunCounts
    review: Review | None = None
    confidence_histogram: list[Count] = Field(description="Labels by confidence, in 20 bins")
    timings: Timings
    duplicates: DuplicateCounts | None = None
    nodes: dict[str, NodeTimings] = Field({}, description="Nodes of a cluster")
    started: str
    ended: str
    files: dict[str, WrittenFile] = Field(description="Files of the result")
    versions: dict[str, str] = Field(description="Library versions")
    drift: Drift | None = Field(None, description="Drift of the newest rows; null before any")

    @property
    def folder(self) -> str:
        """The folder of the result in the output: empty, or `failed/`."""
        return "" if "predictions.csv" in self.files else FAILED
