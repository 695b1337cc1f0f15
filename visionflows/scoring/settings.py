"""How to score a place: what `visionflows score` takes, and what the run form shows.

from visionflows.scoring.settings import ScoreSettings
ScoreSettings(only_new=True, top=3)
"""

from pydantic import Field

from visionflows.inference.engine import EngineSettings


class ScoreSettings(EngineSettings):
    """How to score a place."""

    on: str = Field(
        "local",
        pattern=r"^(local|ray(://[^/\s]+)?)$",
        description="Where: `local`, `ray` for a Ray of this machine's own, or ray://HOST:10001.",
    )
    actor_cores: int | None = Field(
        None,
        ge=1,
        description="On Ray, cores of an actor that scores; as many as the smallest node has.",
    )
    shard_size: int = Field(
        1000, ge=1, le=1_000_000, description="Files a part, the unit of resuming."
    )
    top: int = Field(0, ge=0, le=1000, description="Columns with the best K classes, in order.")
    min_precision: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="Column `review`: whether a person should look, so that of the other labels "
        "at least this share is right.",
    )
    reject_outliers: bool = Field(
        False,
        description="Status `outlier`, and no label, for pictures of another kind than the model "
        "was trained on.",
    )
    only_new: bool = Field(
        False, description="Take over the rows of files that this output has already scored."
    )
    retry_failed: bool = Field(
        False, description="Score again only what failed, and merge its rows into the output."
    )
    restart: bool = Field(
        False, description="Begin anew where an unfinished run of another job lies in the output."
    )
    replace: bool = Field(False, description="Replace the result of another input.")
    allow_empty: bool = Field(
        False, description="Take an input for empty that had files in this output before."
    )
    max_error_rate: float = Field(
        0.05,
        ge=0,
        le=1,
        description="The run fails if more than this share of 20 or more files do.",
    )
    spreadsheet: bool = Field(
        False,
        description="Also write spreadsheet.csv, in which no name of a file is read as a formula.",
    )
    wait: float = Field(0, ge=0, description="Seconds to wait for another run into the output.")
