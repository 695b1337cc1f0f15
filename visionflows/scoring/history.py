"""The history of an output: the night that a run adds to it, and what that is beside the others.

    history = History(place("scores/night"), model)
    run = history.judged(run, "2026-11-26T02:00:00.000+00:00", books.gathered)    # with its drift
    history.keep()                                   # before run.json, which says that all is there

    history/<time>-<digest>.json     a record a night: visionflows.trust.nights
    history.html                     all of them, as a page

A run that adds no row leaves no record, and so does --retry-failed: the night stays what it was.
"""

import logging

from visionflows.model.bundle import Model
from visionflows.places.base import Place
from visionflows.reports.history import PAGE, history_report
from visionflows.scoring.news import Gathered
from visionflows.scoring.result import read_result
from visionflows.scoring.schema import FAILED, RunResult
from visionflows.trust.drift import judged
from visionflows.trust.expected import on_validation
from visionflows.trust.nights import MOST, Night, NightModel, keep, read_nights

log = logging.getLogger("visionflows.history")

# Settings by which the same files have other shares of labels, or are called more or less surely.
_TELLING = ("raw", "reject_outliers")


class History:
    """The nights of an output; `night` is the one that a run adds, once it is judged."""

    def __init__(self, output: Place, model: Model):
        self.output, self.model = output, model
        self.nights = read_nights(output)
        self.night: Night | None = None

    def judged(self, run: RunResult, began: str, gathered: Gathered) -> RunResult:
        """The run with its drift; `began` says when, and is empty for one that adds no night."""
        counted = {one for night in self._told() for one in night.runs}
        tally, contents = gathered.but_of(counted, run.model.digest)
        if not (began and tally.found):
            last = self.nights[-1] if self.nights else None
            same = last is not None and last.model.digest == run.model.digest
            return run.model_copy(update={"drift": last.drift}) if last and same else run
        settings = [name for name in _TELLING if getattr(run.settings, name)]
        # Of one that is repeated: it is that night still.
        before = next((one for one in self.nights if one.is_of(contents, settings)), None)
        night = Night(
            schema_version=Night.VERSION,
            started=before.started if before else began,
            ended=run.ended,
            status=run.status,
            input=run.input,
            model=NightModel(
                name=run.model.name, version=run.model.version, digest=run.model.digest
            ),
            settings=settings,
            contents=contents,
            runs=gathered.runs,
            tally=tally,
            seconds=run.timings.seconds,
            audit=before.audit if before else None,
        )
        earlier = [one for one in self.nights if one.started < night.started]
        drift = judged(night, earlier, on_validation(self.model, bool(run.settings.raw)))
        self.night = night.model_copy(update={"drift": drift})
        for line in drift.warnings:
            log.warning("%s: drift: %s", self.output, line)
        return run.model_copy(update={"drift": drift})

    def _told(self) -> list[Night]:
        """The nights but the last, if no run.json tells of it: the run of that ended before it was
        whole, and the one that goes on with it is that night's still."""
        if not self.nights:
            return []
        results = (read_result(self.output, folder) for folder in ("", FAILED))
        of = {run.drift.night for run in results if run and run.drift}
        return self.nights if self.nights[-1].started in of else self.nights[:-1]

    def keep(self) -> None:
        """Write the record of the night, if there is one, and the page of all."""
        if self.night is None:
            return
        keep(self.output, self.night)
        ours = self.night.contents, self.night.settings
        nights = [one for one in self.nights if not one.is_of(*ours)]
        nights = sorted([*nights, self.night], key=lambda one: one.started)[-MOST:]
        write_page(self.output, nights)


def write_page(output: Place, nights: list[Night]) -> None:
    """Draw the page of an output's nights, the oldest first."""
    output.write(PAGE, history_report(str(output), nights).encode())
