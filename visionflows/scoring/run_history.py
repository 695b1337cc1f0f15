"""The run history of an output: a record of each run, and whether it drifted.

    history = RunHistory(output, model)
    run = history.with_drift(run, "2026-11-26T02:00:00.000+00:00", counter.new_rows)
    history.save()                                   # before run.json

    history/<time>-<digest>.json     a record a run: visionflows.monitoring.run_records
    history.html                     all records, as a page

A run without new rows leaves no record, and neither does --retry-failed.
"""

import logging

from visionflows.models.artifact import Model
from visionflows.monitoring.drift import detect_drift
from visionflows.monitoring.run_records import (
    FOLDER,
    MAX_RECORDS,
    Histograms,
    RecordedModel,
    RunRecord,
    read_run_records,
    save_run_record,
)
from visionflows.monitoring.validation_baseline import read_validation_baseline
from visionflows.reports.history import HISTORY_PAGE, render_history
from visionflows.scoring.new_rows import NewRowsByRun
from visionflows.scoring.result import read_result
from visionflows.scoring.schema import FAILED, RunResult
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.history")

# Settings that change the shares of labels or the confidence for the same files.
_STATISTICS_SETTINGS = ("raw", "reject_outliers")


class RunHistory:
    """The records of an output; `record` is the one that this run adds, if it has new rows."""

    def __init__(self, output: Storage, model: Model):
        self.output, self.model = output, model
        self.records = read_run_records(output)
        self.record: RunRecord | None = None
        self._replaced: RunRecord | None = None

    def with_drift(self, run: RunResult, began: str, new_rows: NewRowsByRun) -> RunResult:
        """The run with its drift. `began` is its start time; empty if it adds no record."""
        orphan = self._orphaned_record()
        recorded = {run for record in self.records if record is not orphan for run in record.runs}
        histograms, contents = new_rows.excluding(recorded, run.model.digest)
        if not (began and histograms.total):
            last = self.records[-1] if self.records else None
            same_model = last is not None and last.model.digest == run.model.digest
            return run.model_copy(update={"drift": last.drift}) if last and same_model else run
        settings = [name for name in _STATISTICS_SETTINGS if getattr(run.settings, name)]
        # A repeated run replaces its record, and so does one that continues an interrupted run.
        continues = orphan and {*orphan.runs}.difference(recorded).intersection(new_rows.runs)
        repeated = (record for record in self.records if record.is_of(contents, settings))
        self._replaced = next(repeated, orphan if continues else None)
        record = self._make_record(run, began, settings, histograms, contents, new_rows.runs)
        earlier = [one for one in self.records if one.started < record.started]
        drift = detect_drift(
            record, earlier, read_validation_baseline(self.model, bool(run.settings.raw))
        )
        self.record = record.model_copy(update={"drift": drift})
        for line in drift.warnings:
            log.warning("%s: drift: %s", self.output, line)
        return run.model_copy(update={"drift": drift})

    def _make_record(
        self,
        run: RunResult,
        began: str,
        settings: list[str],
        histograms: Histograms,
        contents: str,
        runs: list[str],
    ) -> RunRecord:
        model, replaced = run.model, self._replaced
        return RunRecord(
            schema_version=RunRecord.VERSION,
            started=replaced.started if replaced else began,
            ended=run.ended,
            status=run.status,
            input=run.input,
            model=RecordedModel(
                name=model.name, version=model.version, digest=model.digest, storage=model.storage
            ),
            settings=settings,
            contents=contents,
            runs=runs,
            histograms=histograms,
            seconds=run.timings.seconds,
            audit=replaced.audit if replaced else None,
        )

    def _orphaned_record(self) -> RunRecord | None:
        """The last record, if no run.json names it: its run was killed between the two."""
        results = (read_result(self.output, folder) for folder in ("", FAILED))
        named = {run.drift.run for run in results if run and run.drift}
        last = self.records[-1] if self.records else None
        return last if last and last.started not in named else None

    def save(self) -> None:
        """Write the run's record, if it has one, and history.html."""
        if self.record is None:
            return
        save_run_record(self.output, self.record)
        records = [record for record in self.records if record is not self._replaced]
        if self._replaced and self._replaced.name != self.record.name:
            self.output.remove(f"{FOLDER}/{self._replaced.name}")
        records = sorted([*records, self.record], key=lambda record: record.started)[-MAX_RECORDS:]
        write_history(self.output, records)


def write_history(output: Storage, records: list[RunRecord]) -> None:
    """Write history.html; the oldest record first."""
    output.write(HISTORY_PAGE, render_history(str(output), records).encode())
