"""What makes a scoring run this run and no other: a job, its columns, and its plan on the disk.

job = Job("inbox", listing.digest, listing.found, model.digest, model.classes, JobSettings(…))
job.header               # path, status, label, …
job.rows_hold(plan)      # are the rows of an earlier run this one's too?
"""

import dataclasses
import json
import logging
from typing import Any, Protocol

from visionflows.errors import SettingsError
from visionflows.evaluation.thresholds import believed, in_words
from visionflows.hashing import sha256_of
from visionflows.images import exif
from visionflows.inference.backend import EngineInfo
from visionflows.models.artifact import Model
from visionflows.scoring import duplicates
from visionflows.scoring.input_source import same_input
from visionflows.scoring.schema import JobSettings, Plan, RunModel
from visionflows.scoring.settings import ScoreSettings

log = logging.getLogger("visionflows.job")

COLUMNS = ("path", "status", "label", "confidence", "error")


class AnyEngine(Protocol):
    """What a run needs of an engine, which may be `Engine` or the actors of a cluster."""

    model: Model
    seconds: dict[str, float]
    forwarded: int

    @property
    def info(self) -> EngineInfo: ...


@dataclasses.dataclass(frozen=True)
class Job:
    """What makes a run this run: what it scores, with which model, and the settings that show.

    `run` is when it began, and no part of that: whoever goes on with a job is another run.
    """

    input: str
    listing: str
    files: int
    model: str
    classes: tuple[str, ...]
    settings: JobSettings
    run: str = dataclasses.field(default="", compare=False)

    @property
    def digest(self) -> str:
        return _digest(self._identity())

    @property
    def unlisted(self) -> "Job":
        """The job before its files are known: with all that makes a row what it is."""
        return dataclasses.replace(self, listing="", files=0)

    @property
    def digests(self) -> set[str]:
        """Those that the record of a part of this job may name. Whether its files are this job's
        is said by the digest of their names; the version before named the whole job."""
        return {self.unlisted.digest, self.digest}

    def is_of(self, plan: Plan) -> bool:
        """Whether a plan is this job's, or was before its files were known."""
        return plan in (self.as_plan(), self.unlisted.as_plan())

    @property
    def header(self) -> list[str]:
        """The columns of predictions.csv."""
        ranks = range(1, self.settings.top + 1)
        top = [column for rank in ranks for column in (f"top_{rank}", f"top_{rank}_p")]
        about = exif.COLUMNS if self.settings.exif else ()
        alike = duplicates.COLUMNS if self.settings.find_duplicates else ()
        odd = ("outlier_score",) if self.settings.outliers else ()
        more = (*top, *about, *alike, *odd, *self._flagged)
        return [*COLUMNS, *(f"p_{name}" for name in self.classes), *more]

    @property
    def flags(self) -> dict[str, int]:
        """The columns that say True or False of what the network saw, and where they are."""
        first = len(self.header) - len(self._flagged)
        return {name: first + at for at, name in enumerate(self._flagged)}

    @property
    def _flagged(self) -> tuple[str, ...]:
        outlier = ("outlier",) if self.settings.outliers else ()
        return (*outlier, *(("review",) if self.settings.thresholds else ()))

    def as_plan(self) -> Plan:
        """The job as plan.json holds it."""
        return Plan.model_validate(
            {"schema_version": Plan.VERSION, **self._identity(), "job": self.digest}, strict=False
        )

    def _identity(self) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(self) if field.name != "run"]
        told = {name: getattr(self, name) for name in names}
        return {**told, "settings": self.settings.model_dump(exclude_none=True)}

    def rows_hold(self, plan: Plan) -> str | None:
        """None if rows of another job are this job's too, else what differs, for a person."""
        if plan.model != self.model:
            return "the model changed"
        for name, value in sorted(self.settings):
            if name != "shard_size" and getattr(plan.settings, name) != value:
                return f"{name} changed"
        return None

    def difference(self, plan: Plan) -> str:
        """What differs from another job's plan, for a person: the first thing that does."""
        return self.other_than_names(plan) or "files were added or removed since"

    def other_than_names(self, plan: Plan) -> str | None:
        """The same, but for the names of the files; None where nothing else differs."""
        if not same_input(plan.input, self.input):
            return f"its input is {_short(plan.input)}, this one's {_short(self.input)}"
        names = {"model": "model", "classes": "classes", "files": "number of files"}
        for key, name in names.items():
            before, ours = getattr(plan, key), getattr(self, key)
            if before != ours and (key != "files" or plan.listing):
                return f"its {name} is {_short(before)}, this one's {_short(ours)}"
        for name, value in self.settings:
            before = getattr(plan.settings, name)
            if before != value:
                return f"its {name} is {before}, this one's {value}"
        return None


def is_consistent(plan: Plan) -> bool:
    """Whether a plan's digest is that of what it says."""
    told = plan.model_dump(exclude={"schema_version", "job"}, exclude_none=True)
    return plan.job == _digest(told)


def digests_of(plan: Plan) -> set[str]:
    """Those that the record of a part of a plan may name: see `Job.digests`."""
    told = plan.model_dump(exclude={"schema_version", "job"}, exclude_none=True)
    return {plan.job, _digest({**told, "listing": "", "files": 0})}


def _digest(identity: dict[str, Any]) -> str:
    return sha256_of(json.dumps(identity, sort_keys=True).encode())


def make_job(engine: AnyEngine, source: str, settings: ScoreSettings, run: str = "") -> Job:
    """The job of an engine's model and settings on an input, of no files yet.

    What failed and is tried again belongs to the night that it failed in: it is no run's news.
    """
    more: dict[str, Any] = {"decode": settings.decode} if engine.info.overrides_decoding else {}
    more |= {"exif": True} if settings.exif else {}
    more |= {"find_duplicates": True} if settings.find_duplicates else {}
    more |= {"raw": True} if settings.raw and _calibrated(engine.model) else {}
    more |= _outliers(engine.model, settings.reject_outliers)
    if settings.min_precision:
        found = believed(engine.model, settings.min_precision, settings.raw)
        more_of_them = "; outliers are on top of that" if more.get("outliers") else ""
        log.info("review: %s%s", in_words(found, settings.min_precision), more_of_them)
        more |= {"min_precision": settings.min_precision, "thresholds": found.by_class}
    return Job(
        input=source,
        listing="",
        files=0,
        model=engine.model.digest,
        classes=tuple(engine.model.classes),
        settings=JobSettings(
            precision=engine.info.backend.precision,
            batch_size=engine.info.batch_size,
            max_pixels=settings.max_pixels,
            top=min(settings.top, len(engine.model.classes)),
            shard_size=settings.shard_size,
            **more,
        ),
        run="" if settings.retry_failed else run,
    )


def _outliers(model: Model, reject: bool) -> dict[str, bool]:
    """What a job says of outliers. Raises SettingsError where a model cannot tell them."""
    found = model.info.outliers
    if found and found.threshold is not None:
        return {"outliers": True} | ({"reject_outliers": True} if reject else {})
    if reject:
        why = found.why if found else "it is of before it could"
        raise SettingsError(f"reject_outliers: {model.name} tells none ({why}); train it again")
    return {}


def _calibrated(model: Model) -> bool:
    found = model.info.calibration
    return found is not None and found.temperature != 1


def described(model: Model) -> RunModel:
    """A model as run.json names it."""
    return RunModel(
        name=model.info.name,
        version=model.info.version,
        architecture=model.info.architecture,
        classes=model.classes,
        image_size=model.info.image_size,
        digest=model.digest,
        storage=str(model.storage),
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
