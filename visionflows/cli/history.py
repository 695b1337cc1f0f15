"""`visionflows history`: the run history of an output, as a page, a table or JSON."""

from typing import TYPE_CHECKING, Annotated

import typer

from visionflows.cli.options import Json

if TYPE_CHECKING:
    from visionflows.cli.terminal import Rows
    from visionflows.monitoring.run_records import RunRecord

history_app = typer.Typer(rich_markup_mode=None)


@history_app.command(epilog="Example: visionflows history scores/night")
def history(
    output: Annotated[
        str, typer.Argument(help="Output folder of scoring runs, or a folder of such folders.")
    ],
    json: Json = False,
) -> None:
    """Show all runs into an output: a table, warnings, and a page of charts (history.html)."""
    from visionflows.cli.terminal import print_json, print_parts
    from visionflows.errors import LockedError, StorageError
    from visionflows.escaping import printable
    from visionflows.monitoring.run_records import FOLDER, find_run_records
    from visionflows.reports.history import HISTORY_PAGE, render_history
    from visionflows.reports.rendering import describe_lines
    from visionflows.storage import open_storage

    storage = open_storage(output)
    records = find_run_records(storage)
    if not records:
        raise StorageError(f"{output}: no run is recorded there; the next scoring run records one")
    if json:
        print_json([record.as_dict() for record in records])
        return
    is_output = storage.exists(FOLDER)  # and not a folder of outputs
    page = render_history(output, records, is_output).encode()
    warnings = describe_lines("drift_warnings", records)
    try:
        with storage.lock(".lock"):  # a run that starts clears what others are writing
            storage.write(HISTORY_PAGE, page)
        line = f"page  {output.rstrip('/')}/{HISTORY_PAGE}"
    except (LockedError, StorageError) as error:
        line = f"page  not written: {error}"
    print_parts(_table(records), *(["", *warnings] if warnings else []), "", printable(line))


def _table(records: "list[RunRecord]") -> "Rows":
    """One row for each run, newest first."""
    from visionflows.cli.terminal import Rows
    from visionflows.reports.history import MEASURES
    from visionflows.reports.rendering import describe

    measures = [one for one in MEASURES if any(one.value(record) is not None for record in records)]
    rows = [
        [
            record.started[:16].replace("T", " "),
            f"{record.model.name}@{record.model.version}",
            *("–" if (v := one.value(record)) is None else one.format(v) for one in measures),
            describe("top_labels", record.histograms),
            ", ".join(record.drifted) or "–",
        ]
        for record in reversed(records)
    ]
    numbers = tuple(one.title.lower() for one in measures)
    return Rows(("run (UTC)", "model", *numbers, "labels", "drift in"), rows, numbers)
