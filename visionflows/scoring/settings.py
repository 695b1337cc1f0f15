"""The settings of a scoring run: options of `visionflows score`, and fields of the run form."""

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from visionflows.inference.engine import EngineSettings


class ScoreSettings(EngineSettings):
    """How to score a folder, prefix or list."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    on: str = Field("local", pattern=r"^(local|ray(://[^/\s]+)?)$")
    """Where to score: `local`, `ray` (starts Ray here), or ray://HOST:10001."""
    actor_cores: int | None = Field(None, ge=1)
    """On Ray, CPU cores per actor; by default the cores of the smallest node."""
    shard_size: int = Field(1000, ge=1, le=1_000_000)
    """Files per shard, the unit of resuming."""
    top: int = Field(0, ge=0, le=1000)
    """Add columns with this many most probable classes, in order."""
    min_precision: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="Mark rows for review (column `review`), so that at least this share of the "
        "other labels is correct.",
    )
    reject_outliers: bool = False
    """Leave out-of-distribution images without a label (status `outlier`)."""
    only_new: bool = False
    """Score new and changed files; reuse other rows of the same model and settings."""
    retry_failed: bool = False
    """Score only the files that failed in the last run."""
    restart: bool = False
    """Discard an unfinished run of another input, model or settings."""
    replace: bool = False
    """Replace the result of another input in the output."""
    allow_empty: bool = False
    """Accept an empty input although earlier runs found images in it."""
    max_error_rate: float = Field(0.05, ge=0, le=1)
    """Fail a run of 20 or more files if more than this share cannot be scored."""
    spreadsheet: bool = False
    """Also write spreadsheet.csv, which Excel opens without running formulas."""
    follow_links: bool = True
    """Follow symbolic links in a folder; each folder is listed once."""
    min_age: float = Field(0, ge=0)
    """Leave files that changed less than this many seconds ago for the next run."""
    wait: float = Field(0, ge=0)
    """Seconds to wait for another run that writes into the output."""

    @field_validator("actor_cores")
    @classmethod
    def _needs_actors(cls, value: int | None, others: ValidationInfo) -> int | None:
        if value and others.data.get("on") == "local":
            raise ValueError("has no effect on this machine; add --on ray, or leave it out")
        return value
