"""The job of a scoring run: input, model and settings. Runs of one job write the same rows."""

import json
import logging
from collections.abc import Iterator
from typing import Any, Protocol, Self

from pydantic import Field

from visionflows.errors import SettingsError
from visionflows.evaluation.thresholds import describe_thresholds, model_thresholds
from visionflows.hashing import sha256_of
from visionflows.inference.engine import EngineInfo
from visionflows.models.artifact import Model
from visionflows.scoring import columns
from visionflows.scoring.schema import JobSettings
from visionflows.scoring.settings import ScoreSettings
from visionflows.versioned_json import Count, SchemaError, VersionedJson

log = logging.getLogger("visionflows.job")


class AnyEngine(Protocol):
    """What a run needs of an engine, which may be `Engine` or the actors of a cluster."""

    model: Model
    seconds: dict[str, float]
    forwarded: int

    @property
    def info(self) -> EngineInfo: ...


class Job(VersionedJson):
    """parts/plan.json: an input, its files, a model, and the settings that change rows."""

    VERSION = 1

    input: str
    listing: str = Field(description="Digest of the file names; empty until all are listed")
    files: Count
    model: str = Field(description="Digest of the model")
    classes: tuple[str, ...]
    multi_label: bool | None = Field(None, description="Whether a row has several labels")
    settings: JobSettings
    job: str = Field("", description="Digest of all other keys")
    run: str = Field("", exclude=True, description="When a run of the job began")

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The job of a plan.json. Raises SchemaError."""
        job = super().read(data)
        if job.job != job.digest:
            raise SchemaError("its digest does not match its content")
        return job

    @property
    def digest(self) -> str:
        content = self.model_dump(exclude={"schema_version", "job"}, exclude_none=True)
        return sha256_of(json.dumps(content, sort_keys=True).encode())

    @property
    def row_digest(self) -> str:
        """The digest in the record of each part: all that decides a row, without other files."""
        return self.model_copy(update={"listing": "", "files": 0}).digest

    @property
    def header(self) -> list[str]:
        return columns.header(self.classes, self.settings)

    @property
    def flags(self) -> dict[str, int]:
        """The index of each column that is True or False."""
        return {name: self.header.index(name) for name in columns.flag_columns(self.settings)}

    def plan(self) -> bytes:
        """The content of plan.json."""
        return self.model_copy(update={"job": self.digest}).text()

    def continues(self, other: "Job") -> bool:
        """Whether `other` is this job, with or without its files listed."""
        return other.digest in (self.digest, self.row_digest)

    def row_difference(self, other: "Job") -> str | None:
        """Why rows of another job are not rows of this one; None if they are."""
        ignored = ("input", "classes", "number of files", "shard_size")
        names = (name for name, *_ in self._differences(other) if name not in ignored)
        return next((f"{name} changed" for name in names), None)

    def describe_difference(self, other: "Job") -> str:
        """The first difference from another job."""
        for name, before, now in self._differences(other):
            return f"its {name} is {_short(before)}, this one's {_short(now)}"
        return "files were added or removed since"

    def _differences(self, other: "Job") -> Iterator[tuple[str, Any, Any]]:
        """The name of each value that differs, in the other job and in this one."""
        names = {"input": "input", "model": "model", "classes": "classes"}
        names |= {"files": "number of files"} if other.listing else {}
        pairs = [(name, getattr(other, key), getattr(self, key)) for key, name in names.items()]
        pairs += [(name, getattr(other.settings, name), value) for name, value in self.settings]
        return ((name, before, now) for name, before, now in pairs if before != now)


def make_job(engine: AnyEngine, source: str, settings: ScoreSettings, run: str = "") -> Job:
    """The job of an engine's model and settings on an input that is not listed yet."""
    info, model = engine.info, engine.model
    job = Job(
        schema_version=Job.VERSION,
        input=source,
        listing="",
        files=0,
        model=model.digest,
        classes=tuple(model.classes),
        settings=JobSettings(
            precision=info.backend.precision,
            batch_size=info.batch_size,
            max_pixels=settings.max_pixels,
            top=min(settings.top, len(model.classes)),
            shard_size=settings.shard_size,
            **_optional_settings(engine, settings),
        ),
        run="" if settings.retry_failed else run,  # retried rows belong to the run that failed
    )
    return job.model_copy(update={"multi_label": True}) if model.info.multi_label else job


def _optional_settings(engine: AnyEngine, settings: ScoreSettings) -> dict[str, Any]:
    """The settings that a job names only if they are on."""
    model, calibration = engine.model, engine.model.info.calibration
    values: dict[str, Any] = {
        "exif": settings.exif,
        "find_duplicates": settings.find_duplicates,
        "decode": engine.info.overrides_decoding and settings.decode,
        "raw": settings.raw and calibration is not None and calibration.changes_probabilities,
        "outliers": _detects_outliers(model, settings.reject_outliers),
        "reject_outliers": settings.reject_outliers,
    }
    if settings.min_precision:
        found = model_thresholds(model, settings.min_precision, settings.raw)
        outliers = "; outliers are reviewed as well" if values["outliers"] else ""
        log.info("review: %s%s", describe_thresholds(found, settings.min_precision), outliers)
        values |= {"min_precision": settings.min_precision, "thresholds": found.by_class}
    return {name: value for name, value in values.items() if value}


def _detects_outliers(model: Model, needed: bool) -> bool:
    """Whether a model detects outliers. Raises SettingsError if it does not and it is needed."""
    found = model.info.outliers
    detects = found is not None and found.threshold is not None
    if needed and not detects:
        why = f" ({found.why})" if found else ""
        raise SettingsError(
            f"reject_outliers: {model.name} detects no outliers{why}; train it again"
        )
    return detects


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
