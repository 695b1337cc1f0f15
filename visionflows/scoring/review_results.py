"""What people say of a run's labels: the page that asks them, and what they said, kept beside it.

    from visionflows.scoring.review_results import add
    add("scores/night", ["corrections.csv"])             # an Estimate a run, the latest first

    review.html                     asks: visionflows.reports.review
    corrections/<time>-<sha8>.csv   what was answered, as it was saved; never changed
    report.html                     says what follows from it: visionflows.reports.scoring.insert_audits

Corrections stay in an output through all its runs, and so tell how a model does over time.
"""

import datetime
import logging

from visionflows.errors import LockedError, RunError, StorageError, TableError
from visionflows.hashing import sha256_of
from visionflows.monitoring.run_records import Audit, RunRecord, note_audit, read_run_records
from visionflows.reports.review import build_review, render_review
from visionflows.reports.scoring import insert_audits
from visionflows.review.audit import Estimate, estimates
from visionflows.review.corrections import FOLDER, Correction, read_corrections, written
from visionflows.scoring.input_source import placed
from visionflows.scoring.result import read_result
from visionflows.scoring.run_history import write_page
from visionflows.scoring.schema import FAILED, RunResult
from visionflows.storage import open_storage
from visionflows.storage.base import Storage

log = logging.getLogger("visionflows.corrections")


def write_pages(run: RunResult, report: str, source: Storage, output: Storage) -> None:
    """Write the report of a run, with what people said of the runs before, and the page that asks
    them of this one."""
    pages = {
        "report.html": insert_audits(report, audits(output)),
        "review.html": render_review(build_review(run, source, output)),
    }
    for name, html in pages.items():
        output.write(f"{run.folder}{name}", html.encode())


def audits(output: Storage) -> list[Estimate]:
    """What the corrections in an output say of its runs, the latest first.

    A file there that is none is left out with a warning: it is no reason for a run to fail.
    """
    try:
        return estimates(read_corrections([str(output)]) if output.exists(FOLDER) else [])
    except (TableError, StorageError) as error:
        log.warning("%s; no audit is shown", error)
        return []


def add(output: str, files: list[str]) -> list[Estimate]:
    """Keep files of corrections in the output of a run, and show in its report what they say.

    The same file twice in a row is kept once. Returns what all that is there says of the output's
    runs. Raises RunError where no run has ended there, PlaceError, and TableError for what is none.
    """
    there, folder = open_storage(output), _ended(output).folder
    # The newest alone: who says again what was said before another word means it.
    kept = max(there.names(FOLDER), default="").rpartition("-")[2]
    for file in files:
        data = written(read_corrections([file]))
        told = f"{sha256_of(data)[:8]}.csv"
        if told != kept:
            kept = told
            now = datetime.datetime.now(datetime.UTC)
            there.write(f"{FOLDER}/{now:%Y%m%dT%H%M%S%fZ}-{told}", data)
    found = estimates(read_corrections([output]))
    try:
        with there.lock(".lock"):
            _into_report(there, f"{folder}report.html", found)
            _into_history(there, found)
    except LockedError:
        log.info("%s: a run writes there, and its report will show them", output)
    return found


def _into_report(output: Storage, name: str, found: list[Estimate]) -> None:
    """Show what was found in the report of the last run, where that is there and has a place."""
    try:
        page = output.read(name).decode()
    except FileNotFoundError:
        log.warning("%s/%s: is gone; the next run's report shows what people said", output, name)
        return
    output.write(name, insert_audits(page, found).encode())


def _into_history(output: Storage, found: list[Estimate]) -> None:
    """Add what was found of each run to the record of its night, and draw the page of all anew."""
    run_records = read_run_records(output)
    by_night = {
        run_record.name: one
        for one in reversed(found)
        if (run_record := _record_of(one, run_records))
    }
    run_records = [
        _audited(output, run_record, by_night.get(run_record.name)) for run_record in run_records
    ]
    if run_records:
        write_page(output, run_records)


def _record_of(found: Estimate, run_records: list[RunRecord]) -> RunRecord | None:
    """The newest night of that model which had ended by then: a run that adds no night, as one that
    tries again what failed, tells of the last one."""
    ended = [
        one
        for one in run_records
        if one.ended <= found.scored and found.model == f"{one.model.name}@{one.model.version}"
    ]
    return max(ended, key=lambda one: one.ended, default=None)


def _audited(output: Storage, run_record: RunRecord, found: Estimate | None) -> RunRecord:
    if found is None:
        return run_record
    low, high = found.interval
    audit = Audit(accuracy=found.share, low=low, high=high, images=found.looked_at)
    return note_audit(output, run_record.name, audit)


def asked(output: str) -> tuple[RunResult, list[Correction]]:
    """The run that has ended in an output, and what review.html asks of it, a row a picture.

    Raises RunError where no run has ended there.
    """
    run = _ended(output)
    review = build_review(run, placed(run.root or run.input), open_storage(output))
    return run, [review.correction(item) for item in review.items]


def _ended(output: str) -> RunResult:
    there = open_storage(output)
    run = read_result(there) or read_result(there, FAILED)
    if run is None:
        raise RunError(f"{output}: no run has ended there; name the output of one")
    return run
