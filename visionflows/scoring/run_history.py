"""The run history of an output: a record of each run with new rows, and whether it drifted."""

import logging
from collections.abc import Mapping

from visionflows.hashing import sha256_of
from visionflows.models.artifact import Model
from visionflows.monitoring import run_records
from visionflows.monitoring.drift import detect_drift, read_validation_baseline
from visionflows.reports.history import HISTORY_PAGE, render_history
from visionflows.scoring.counts import NewRows
from visionflows.scoring.result import read_result
from visionflows.scoring.schema import FAILED, RunResult
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.history")


class RunHistory:
    """The records of an output; `record` is the one that this run adds, if it has new rows."""

    def __init__(self, output: Storage, model: Model):
        self.output, self.model = output, model
        self.records = run_records.read_run_records(output)
        self._last = self.records[-1] if self.records else None
        self.record: run_records.RunRecord | None = None
        self._replaced: run_records.RunRecord | None = None

    def with_drift(
        self, run: RunResult, began: str, new_rows: Mapping[str, run_records.NewRowCounts]
    ) -> RunResult:
        """The run with its drift. `began` is its start time; empty if it adds no record.

        `new_rows` are those in its parts, by the run that scored them.
        """
        orphan = self._orphaned_record()
        recorded = {run for record in self.records if record is not orphan for run in record.runs}
        unrecorded = (rows for key, rows in new_rows.items() if key not in recorded)
        found = NewRows.combine(unrecorded, began)
        if not (began and found.histograms.total):
            if self._last and self._last.model.digest == run.model.digest:
                return run.model_copy(update={"drift": self._last.drift})
            return run
        # Settings that change the shares of labels or the confidence for the same files.
        names = ("raw", "reject_outliers")
        settings = [name for name in names if getattr(run.settings, name)]
        # A repeated run replaces its record, and so does one that continues an interrupted run.
        continues = orphan and {*orphan.runs}.difference(recorded).intersection(new_rows)
        contents = sha256_of(f"{run.model.digest} {found.contents}".encode())
        key = contents, settings
        repeated = (one for one in self.records if (one.contents, one.settings) == key)
        self._replaced = next(repeated, orphan if continues else None)
        record = self._make_record(run, found, settings, contents, sorted(new_rows))
        earlier = [one for one in self.records if one.started < record.started]
        baseline = read_validation_baseline(self.model, bool(run.settings.raw))
        drift = detect_drift(record, earlier, baseline)
        self.record = record.model_copy(update={"drift": drift})
        for line in drift.warnings:
            log.warning("%s: drift: %s", self.output, line)
        return run.model_copy(update={"drift": drift})

    def _make_record(
        self,
        run: RunResult,
        found: run_records.NewRowCounts,
        settings: list[str],
        contents: str,
        runs: list[str],
    ) -> run_records.RunRecord:
        replaced, recorded = self._replaced, set(run_records.RecordedModel.model_fields)
        return run_records.RunRecord(
            schema_version=run_records.RunRecord.VERSION,
            started=replaced.started if replaced else found.run,
            ended=run.ended,
            status=run.status,
            input=run.input,
            model=run_records.RecordedModel(**run.model.model_dump(include=recorded)),
            settings=settings,
            contents=contents,
            runs=runs,
            histograms=found.histograms,
            seconds=run.timings.seconds,
            audit=replaced.audit if replaced else None,
        )

    def _orphaned_record(self) -> run_records.RunRecord | None:
        """The last record, if no run.json names it: its run was killed between the two."""
        results = (read_result(self.output, folder) for folder in ("", FAILED))
        named = {run.drift.run for run in results if run and run.drift}
        return self._last if self._last and self._last.started not in named else None

    def save(self) -> None:
        """Write the run's record, if it has one, and history.html."""
        if self.record is None:
            return
        run_records.save_run_record(self.output, self.record)
        records = [record for record in self.records if record is not self._replaced]
        if self._replaced and self._replaced.name != self.record.name:
            self.output.remove(f"{run_records.FOLDER}/{self._replaced.name}")
        records = sorted([*records, self.record], key=lambda record: record.started)
        write_history(self.output, records[-run_records.MAX_RECORDS :])


def write_history(output: Storage, records: list[run_records.RunRecord]) -> None:
    """Write history.html; the oldest record first."""
    output.write(HISTORY_PAGE, render_history(str(output), records).encode())
