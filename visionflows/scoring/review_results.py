"""Review results of a run: the review page, and the corrections that people saved on it."""

import datetime
import logging
from collections.abc import Iterable

from visionflows.errors import LockedError, RunError, StorageError, TableError
from visionflows.hashing import sha256_of
from visionflows.models.artifact import Model
from visionflows.monitoring.run_records import Audit, RunRecord, read_run_records, save_run_record
from visionflows.reports.review import build_review, render_review
from visionflows.reports.scoring import insert_audits, render_scoring_report
from visionflows.review.audit import Estimate, estimate_accuracy
from visionflows.review.corrections import FOLDER, Correction, format_corrections, read_corrections
from visionflows.scoring.result import read_result
from visionflows.scoring.run_history import write_history
from visionflows.scoring.run_report import explain_samples
from visionflows.scoring.schema import FAILED, RunResult
from visionflows.storage import open_location, open_storage
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.corrections")


def write_pages(run: RunResult, model: Model, source: Storage, output: Storage) -> None:
    """Write report.html with the audits of earlier runs, and review.html."""
    report = render_scoring_report(run, explain_samples(run, model, source, output))
    report = insert_audits(report, read_audits(output))
    review = render_review(build_review(run, source, output))
    output.write(f"{run.folder}report.html", report.encode())
    output.write(f"{run.folder}review.html", review.encode())


def read_audits(output: Storage) -> list[Estimate]:
    """The estimates from an output's corrections, the latest run first; invalid ones are logged."""
    try:
        return estimate_accuracy(read_corrections([str(output)]) if output.exists(FOLDER) else [])
    except (TableError, StorageError) as error:
        log.warning("%s; the report shows no audit", error)
        return []


def add_corrections(output: str, files: list[str]) -> list[Estimate]:
    """Add corrections; returns all estimates, the latest first. Raises RunError, TableError."""
    storage, folder = open_storage(output), _read_last_run(output).folder
    # Only the newest: a person may correct an image back to what an older file says.
    newest = max(storage.names(FOLDER), default="").rpartition("-")[2]
    for file in files:
        data = format_corrections(read_corrections([file]))
        name = f"{sha256_of(data)[:8]}.csv"
        if name != newest:
            newest = name
            now = datetime.datetime.now(datetime.UTC)
            storage.write(f"{FOLDER}/{now:%Y%m%dT%H%M%S%fZ}-{name}", data)
    found = estimate_accuracy(read_corrections([output]))
    try:
        with storage.lock(".lock"):
            _update_report(storage, f"{folder}report.html", found)
            _update_history(storage, found)
    except LockedError:
        log.info("%s: a run is writing here; its report will show the corrections", output)
    return found


def _update_report(output: Storage, name: str, found: list[Estimate]) -> None:
    try:
        page = output.read(name).decode()
    except FileNotFoundError:
        log.warning("%s/%s: is missing; the next run's report shows the audit", output, name)
        return
    output.write(name, insert_audits(page, found).encode())


def _update_history(output: Storage, found: list[Estimate]) -> None:
    """Add each run's estimate to its record, and write history.html again."""
    records = {record.name: record for record in read_run_records(output)}
    for estimate in reversed(found):  # the latest counts
        if record := _find_record(estimate, records.values()):
            low, high = estimate.interval
            audit = Audit(accuracy=estimate.share, low=low, high=high, images=estimate.reviewed)
            records[record.name] = record.model_copy(update={"audit": audit})
            save_run_record(output, records[record.name])
    if records:
        write_history(output, [*records.values()])


def _find_record(found: Estimate, records: Iterable[RunRecord]) -> RunRecord | None:
    """The newest record of the estimate's model then: a run without new rows has none."""
    ended = [
        record
        for record in records
        if record.ended <= found.scored
        and found.model == f"{record.model.name}@{record.model.version}"
    ]
    return max(ended, key=lambda record: record.ended, default=None)


def review_questions(output: str) -> tuple[RunResult, list[Correction]]:
    """The last run of an output, and the rows of its review.html. Raises RunError if none ended."""
    run = _read_last_run(output)
    review = build_review(run, open_location(run.root), open_storage(output))
    return run, [review.correction(item) for item in review.items]


def _read_last_run(output: str) -> RunResult:
    storage = open_storage(output)
    run = read_result(storage) or read_result(storage, FAILED)
    if run is None:
        raise RunError(f"{output}: no run has ended there; name the output of one")
    return run
