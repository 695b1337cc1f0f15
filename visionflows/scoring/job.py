"""What makes a scoring run this run and no other: a job, its columns, and its plan on the disk.

job = Job("inbox", listing.digest, listing.found, model.digest, model.classes, JobSettings(…))
job.header               # path, status, label, …
job.rows_hold(plan)      # are the rows of an earlier run this one's too?
"""

import dataclasses
import json
from typing import Any

from visionflows.digest import sha256_of
from visionflows.scoring.schema import JobSettings, Plan

COLUMNS = ("path", "status", "label", "confidence", "error")


@dataclasses.dataclass(frozen=True)
class Job:
    """What makes a run this run: what it scores, with which model, and the settings that show."""

    input: str
    listing: str
    files: int
    model: str
    classes: tuple[str, ...]
    settings: JobSettings

    @property
    def digest(self) -> str:
        text = json.dumps(self._identity(), sort_keys=True)
        return sha256_of(text.encode())

    @property
    def header(self) -> list[str]:
        """The columns of predictions.csv."""
        ranks = range(1, self.settings.top + 1)
        top = [column for rank in ranks for column in (f"top_{rank}", f"top_{rank}_p")]
        return [*COLUMNS, *(f"p_{name}" for name in self.classes), *top]

    def as_plan(self) -> Plan:
        """The job as plan.json holds it."""
        return Plan.model_validate({**self._identity(), "job": self.digest}, strict=False)

    def _identity(self) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(self)]
        told = {name: getattr(self, name) for name in names}
        return {**told, "settings": self.settings.model_dump()}

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
        names = {
            "input": "input",
            "model": "model",
            "classes": "classes",
            "files": "number of files",
        }
        for key, name in names.items():
            before, ours = getattr(plan, key), getattr(self, key)
            if before != ours:
                return f"its {name} is {_short(before)}, this one's {_short(ours)}"
        for name, value in self.settings:
            before = getattr(plan.settings, name)
            if before != value:
                return f"its {name} is {before}, this one's {value}"
        return "files were added, removed or changed since"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
