"""The history of an output: the night that a run adds to it, and what that is beside the others.

    history = History(place("scores/night"), model)
    run = history.judged(run, "2026-11-26T02:00:00.000+00:00", books.gathered)    # with its drift
    history.keep()                                   # before run.json, which says that all is there

    history/<time>-<digest>.json     a record a night: visionflows.monitoring.run_records
    history.html                     all of them, as a page

A run that adds no row leaves no record, and so does --retry-failed: the night stays what it was.
"""

import logging

from visionflows.models.artifact import Model
from visionflows.monitoring.drift import judged
from visionflows.monitoring.run_records import (
    FOLDER,
    MOST,
    RecordedModel,
    RunRecord,
    keep,
    read_run_records,
)
from visionflows.monitoring.validation_baseline import on_validation
from visionflows.reports.history import HISTORY_PAGE, render_history
from visionflows.scoring.new_rows import NewRowsByRun
from visionflows.scoring.result import read_result
from visionflows.scoring.schema import FAILED, RunResult
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.history")

# Settings by which the same files have other shares of labels, or are called more or less surely.
_TELLING = ("raw", "reject_outliers")


class History:
    """The nights of an output; `night` is the one that a run adds, once it is judged."""

    def __init__(self, output: Storage, model: Model):
        self.output, self.model = output, model
        self.run_records = read_run_records(output)
        self.run_record: RunRecord | None = None
        self._before: RunRecord | None = None  # the record that this night's takes the place of

    def judged(self, run: RunResult, began: str, gathered: NewRowsByRun) -> RunResult:
        """The run with its drift; `began` says when, and is empty for one that adds no night."""
        untold = self._untold()
        counted = {
            run
            for run_record in self.run_records
            if run_record is not untold
            for run in run_record.runs
        }
        tally, contents = gathered.but_of(counted, run.model.digest)
        if not (began and tally.found):
            last = self.run_records[-1] if self.run_records else None
            same = last is not None and last.model.digest == run.model.digest
            return run.model_copy(update={"drift": last.drift}) if last and same else run
        settings = [name for name in _TELLING if getattr(run.settings, name)]
        # Of one that is repeated, or of which this run goes on with parts: it is that night still.
        goes_on = untold and {*untold.runs}.difference(counted).intersection(gathered.runs)
        alike = (one for one in self.run_records if one.is_of(contents, settings))
        self._before = before = next(alike, untold if goes_on else None)
        run_record = RunRecord(
            schema_version=RunRecord.VERSION,
            started=before.started if before else began,
            ended=run.ended,
            status=run.status,
            input=run.input,
            model=RecordedModel(
                name=run.model.name,
                version=run.model.version,
                digest=run.model.digest,
                storage=run.model.storage,
            ),
            settings=settings,
            contents=contents,
            runs=gathered.runs,
            tally=tally,
            seconds=run.timings.seconds,
            audit=before.audit if before else None,
        )
        earlier = [one for one in self.run_records if one.started < run_record.started]
        drift = judged(run_record, earlier, on_validation(self.model, bool(run.settings.raw)))
        self.run_record = run_record.model_copy(update={"drift": drift})
        for line in drift.warnings:
            log.warning("%s: drift: %s", self.output, line)
        return run.model_copy(update={"drift": drift})

    def _untold(self) -> RunRecord | None:
        """The last night, if no run.json tells of it: its run ended between the two."""
        results = (read_result(self.output, folder) for folder in ("", FAILED))
        told = {run.drift.run_record for run in results if run and run.drift}
        last = self.run_records[-1] if self.run_records else None
        return last if last and last.started not in told else None

    def keep(self) -> None:
        """Write the record of the night, if there is one, and the page of all."""
        if self.run_record is None:
            return
        keep(self.output, self.run_record)
        run_records = [one for one in self.run_records if one is not self._before]
        if self._before and self._before.name != self.run_record.name:
            self.output.remove(f"{FOLDER}/{self._before.name}")
        run_records = sorted([*run_records, self.run_record], key=lambda one: one.started)[-MOST:]
        write_page(self.output, run_records)


def write_page(output: Storage, run_records: list[RunRecord]) -> None:
    """Draw the page of an output's nights, the oldest first."""
    output.write(HISTORY_PAGE, render_history(str(output), run_records).encode())
