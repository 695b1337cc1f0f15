"""The job of a scoring run: input, model and settings. Runs of one job write the same rows."""

import dataclasses
import json
import logging
from collections.abc import Iterator
from typing import Any, Protocol

from visionflows.errors import SettingsError
from visionflows.evaluation.thresholds import describe_thresholds, model_thresholds
from visionflows.hashing import sha256_of
from visionflows.inference.backend import EngineInfo
from visionflows.models.artifact import Model
from visionflows.scoring import columns
from visionflows.scoring.schema import JobSettings, Plan
from visionflows.scoring.settings import ScoreSettings

log = logging.getLogger("visionflows.job")


class AnyEngine(Protocol):
    """What a run needs of an engine, which may be `Engine` or the actors of a cluster."""

    model: Model
    seconds: dict[str, float]
    forwarded: int

    @property
    def info(self) -> EngineInfo: ...


@dataclasses.dataclass(frozen=True)
class Job:
    """An input, the digest of its file names, a model, and the settings that change rows."""

    input: str
    listing: str
    files: int
    model: str
    classes: tuple[str, ...]
    settings: JobSettings
    run: str = dataclasses.field(default="", compare=False)  # when a run of the job began

    @classmethod
    def from_plan(cls, plan: Plan) -> "Job":
        """The job of a plan.json. Raises ValueError if the plan's digest is not the job's."""
        job = cls(**{name: value for name, value in plan if name not in ("schema_version", "job")})
        if job.digest != plan.job:
            raise ValueError("its digest does not match its content")
        return job

    @property
    def digest(self) -> str:
        return sha256_of(json.dumps(self._as_dict(), sort_keys=True).encode())

    @property
    def without_files(self) -> "Job":
        """The job before its input is listed."""
        return dataclasses.replace(self, listing="", files=0)

    @property
    def row_digest(self) -> str:
        """The digest in the record of each part: all that decides a row, without other files."""
        return self.without_files.digest

    @property
    def header(self) -> list[str]:
        return columns.header(self.classes, self.settings)

    @property
    def flags(self) -> dict[str, int]:
        """The index of each column that is True or False."""
        return {name: self.header.index(name) for name in columns.flag_columns(self.settings)}

    def as_plan(self) -> Plan:
        """The content of plan.json."""
        content = {"schema_version": Plan.VERSION, **self._as_dict(), "job": self.digest}
        return Plan.model_validate(content, strict=False)

    def continues(self, other: "Job") -> bool:
        """Whether `other` is this job, with or without its files listed."""
        return other in (self, self.without_files)

    def _as_dict(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name != "run"}
        return {**values, "settings": self.settings.model_dump(exclude_none=True)}

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
    return Job(
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


def _optional_settings(engine: AnyEngine, settings: ScoreSettings) -> dict[str, Any]:
    """The settings that a job names only if they are on."""
    model = engine.model
    on: dict[str, Any] = {
        name: True for name in ("exif", "find_duplicates") if getattr(settings, name)
    }
    on |= {"decode": settings.decode} if engine.info.overrides_decoding else {}
    calibration = model.info.calibration
    if settings.raw and calibration and calibration.temperature != 1:
        on |= {"raw": True}
    on |= _outlier_settings(model, settings.reject_outliers)
    if settings.min_precision:
        found = model_thresholds(model, settings.min_precision, settings.raw)
        outliers = "; outliers are reviewed as well" if on.get("outliers") else ""
        log.info("review: %s%s", describe_thresholds(found, settings.min_precision), outliers)
        on |= {"min_precision": settings.min_precision, "thresholds": found.by_class}
    return on


def _outlier_settings(model: Model, reject: bool) -> dict[str, bool]:
    """The settings of outliers. Raises SettingsError if the model cannot detect them."""
    found = model.info.outliers
    if found and found.threshold is not None:
        return {"outliers": True} | ({"reject_outliers": True} if reject else {})
    if reject:
        why = f" ({found.why})" if found else ""
        raise SettingsError(
            f"reject_outliers: {model.name} detects no outliers{why}; train it again"
        )
    return {}


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
