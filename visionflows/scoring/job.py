"""What makes a scoring run this run and no other: a job, its columns, and its plan on the disk.

job = Job("inbox", listing.digest, listing.found, model.digest, model.classes, settings)
job.header               # path, status, label, …
job.rows_hold(plan)      # are the rows of an earlier run this one's too?
"""

import dataclasses
import json
from typing import Any

from visionflows.digest import sha256_of

COLUMNS = ("path", "status", "label", "confidence", "error")


@dataclasses.dataclass(frozen=True)
class Job:
    """What makes a run this run: what it scores, with which model, and the settings that show."""

    input: str
    listing: str
    files: int
    model: str
    classes: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def digest(self) -> str:
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return sha256_of(text.encode())

    @property
    def header(self) -> list[str]:
        """The columns of predictions.csv."""
        ranks = range(1, self.settings.get("top", 0) + 1)
        top = [column for rank in ranks for column in (f"top_{rank}", f"top_{rank}_p")]
        return [*COLUMNS, *(f"p_{name}" for name in self.classes), *top]

    def as_plan(self) -> dict:
        """The job as plan.json holds it."""
        return json.loads(json.dumps({**dataclasses.asdict(self), "job": self.digest}))

    def rows_hold(self, plan: dict) -> str | None:
        """None if rows of another job are this job's too, else what differs, for a person."""
        ours = self.as_plan()
        if plan.get("model") != self.model:
            return "the model changed"
        names = sorted({*plan["settings"], *self.settings} - {"shard_size"})
        for name in names:
            if plan["settings"].get(name) != ours["settings"].get(name):
                return f"{name} changed"
        return None

    def difference(self, plan: dict) -> str:
        """What differs from another job's plan, for a person: the first thing that does."""
        ours = self.as_plan()
        names = {
            "input": "input",
            "model": "model",
            "classes": "classes",
            "files": "number of files",
        }
        for key, name in names.items():
            if plan.get(key) != ours[key]:
                return f"its {name} is {_short(plan.get(key))}, this one's {_short(ours[key])}"
        for key, value in ours["settings"].items():
            before = plan.get("settings", {}).get(key)
            if before != value:
                return f"its {key} is {before}, this one's {value}"
        return "files were added, removed or changed since"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
