"""Review results of a run: the review page, and the corrections that people saved on it.

    review.html                     the page: visionflows.reports.review
    corrections/<time>-<sha8>.csv   corrections as they were saved
    report.html, history.html       show the accuracy that follows from them

Corrections stay in an output through all its runs, so they show a model's accuracy over time.
"""

import datetime
import logging

from visionflows.errors import LockedError, RunError, StorageError, TableError
from visionflows.hashing import sha256_of
from visionflows.monitoring.run_records import Audit, RunRecord, add_audit, read_run_records
from visionflows.reports.review import build_review, render_review
from visionflows.reports.scoring import insert_audits
from visionflows.review.audit import Estimate, estimate_accuracy
from visionflows.review.corrections import FOLDER, Correction, format_corrections, read_corrections
from visionflows.scoring.result import read_result
from visionflows.scoring.run_history import write_history
from visionflows.scoring.schema import FAILED, RunResult
from visionflows.storage import open_location, open_storage
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.corrections")


def write_pages(run: RunResult, report: str, source: Storage, output: Storage) -> None:
    """Write report.html with the audits of earlier runs, and review.html."""
    pages = {
        "report.html": insert_audits(report, read_audits(output)),
        "review.html": render_review(build_review(run, source, output)),
    }
    for name, html in pages.items():
        output.write(f"{run.folder}{name}", html.encode())


def read_audits(output: Storage) -> list[Estimate]:
    """The estimates from the corrections in an output, the latest run first.

    Invalid corrections are logged and left out, so that a run does not fail because of them.
    """
    try:
        return estimate_accuracy(read_corrections([str(output)]) if output.exists(FOLDER) else [])
    except (TableError, StorageError) as error:
        log.warning("%s; the report shows no audit", error)
        return []


def add_corrections(output: str, files: list[str]) -> list[Estimate]:
    """Copy files of corrections into the output of a run, and update its report and history.

    Returns the estimates from all corrections in the output, the latest run first. Raises RunError
    if no run has ended there, StorageError, and TableError for an invalid file.
    """
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
    records = read_run_records(output)
    by_record = {
        record.name: estimate
        for estimate in reversed(found)
        if (record := _find_record(estimate, records))
    }
    records = [_add_audit(output, record, by_record.get(record.name)) for record in records]
    if records:
        write_history(output, records)


def _find_record(found: Estimate, records: list[RunRecord]) -> RunRecord | None:
    """The newest record of the estimate's model at that time.

    A run without new rows, such as a retry, has no record: its corrections belong to the last one.
    """
    ended = [
        record
        for record in records
        if record.ended <= found.scored
        and found.model == f"{record.model.name}@{record.model.version}"
    ]
    return max(ended, key=lambda record: record.ended, default=None)


def _add_audit(output: Storage, record: RunRecord, found: Estimate | None) -> RunRecord:
    if found is None:
        return record
    low, high = found.interval
    audit = Audit(accuracy=found.share, low=low, high=high, images=found.reviewed)
    return add_audit(output, record.name, audit)


def review_questions(output: str) -> tuple[RunResult, list[Correction]]:
    """The last run of an output, and the rows of its review.html, still without answers.

    Raises RunError if no run has ended there.
    """
    run = _read_last_run(output)
    review = build_review(run, open_location(run.root), open_storage(output))
    return run, [review.correction(item) for item in review.items]


def _read_last_run(output: str) -> RunResult:
    storage = open_storage(output)
    run = read_result(storage) or read_result(storage, FAILED)
    if run is None:
        raise RunError(f"{output}: no run has ended there; name the output of one")
    return run
