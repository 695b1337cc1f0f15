"""`visionflows history`: all nights of an output, as a page, a table, or JSON."""

from typing import TYPE_CHECKING, Annotated

import typer

from visionflows.cli.options import Json

if TYPE_CHECKING:
    from visionflows.cli.terminal import Rows
    from visionflows.monitoring.run_records import RunRecord

history_app = typer.Typer(rich_markup_mode=None)
LABELS = 3  # of a night, in the table: the page has more of them


@history_app.command(epilog="Example: visionflows history scores/night")
def history(
    output: Annotated[
        str, typer.Argument(help="The output of scoring runs, or the folder that such lie in.")
    ],
    json: Json = False,
) -> None:
    """All nights of an output: a page of charts (history.html there), warnings, and a table."""
    from visionflows.cli.terminal import clean, tell, tell_json
    from visionflows.errors import StorageError
    from visionflows.monitoring.run_records import records_below
    from visionflows.reports.run_history import PAGE, history_report
    from visionflows.storage import open_storage

    where = open_storage(output)
    if not (run_records := records_below(where)):
        raise StorageError(f"{output}: no night is recorded there; the next scoring run leaves one")
    if json:
        tell_json([run_record.as_dict() for run_record in run_records])
        return
    where.write(PAGE, history_report(output, run_records).encode())
    warnings = [
        f"{run_record.started[:10]}  {line}"
        for run_record in run_records
        if run_record.drift
        for line in run_record.drift.warnings
    ]
    told = [f"warned {line}" for line in map(clean, warnings)]
    tell(
        _table(run_records),
        *(["", *told] if told else []),
        "",
        f"page  {output.rstrip('/')}/{PAGE}",
    )


def _table(run_records: "list[RunRecord]") -> "Rows":
    """A row a night, the newest first."""
    from visionflows.cli.terminal import Rows
    from visionflows.reports.run_history import MEASURES

    known = [
        one
        for one in MEASURES
        if any(one.value(run_record) is not None for run_record in run_records)
    ]
    rows = [
        [
            run_record.started[:16].replace("T", " "),
            f"{run_record.model.name}@{run_record.model.version}",
            *("–" if (v := one.value(run_record)) is None else one.told(v) for one in known),
            _labels(run_record),
            ", ".join(run_record.warned_of) or "–",
        ]
        for run_record in reversed(run_records)
    ]
    numbers = tuple(one.title.lower() for one in known)
    return Rows(("night (UTC)", "model", *numbers, "labels", "warned of"), rows, numbers)


def _labels(run_record: "RunRecord") -> str:
    from visionflows.reports.page import percent

    counts, whole = run_record.tally.labels, run_record.tally.ok
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{label} {percent(count / whole)}" for label, count in order[:LABELS]]
    return ", ".join([*told, *(["…"] if len(order) > LABELS else [])]) or "–"
