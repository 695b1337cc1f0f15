"""`visionflows history`: all nights of an output, as a page, a table, or JSON."""

from typing import TYPE_CHECKING, Annotated

import typer

from visionflows.cli.options import Json

if TYPE_CHECKING:
    from visionflows.cli.terminal import Rows
    from visionflows.monitoring.run_records import Night

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
    from visionflows.errors import PlaceError
    from visionflows.monitoring.run_records import nights_below
    from visionflows.reports.run_history import PAGE, history_report
    from visionflows.storage import place

    where = place(output)
    if not (nights := nights_below(where)):
        raise PlaceError(f"{output}: no night is recorded there; the next scoring run leaves one")
    if json:
        tell_json([night.as_dict() for night in nights])
        return
    where.write(PAGE, history_report(output, nights).encode())
    warnings = [
        f"{night.started[:10]}  {line}"
        for night in nights
        if night.drift
        for line in night.drift.warnings
    ]
    told = [f"warned {line}" for line in map(clean, warnings)]
    tell(_table(nights), *(["", *told] if told else []), "", f"page  {output.rstrip('/')}/{PAGE}")


def _table(nights: "list[Night]") -> "Rows":
    """A row a night, the newest first."""
    from visionflows.cli.terminal import Rows
    from visionflows.reports.run_history import MEASURES

    known = [one for one in MEASURES if any(one.value(night) is not None for night in nights)]
    rows = [
        [
            night.started[:16].replace("T", " "),
            f"{night.model.name}@{night.model.version}",
            *("–" if (v := one.value(night)) is None else one.told(v) for one in known),
            _labels(night),
            ", ".join(night.warned_of) or "–",
        ]
        for night in reversed(nights)
    ]
    numbers = tuple(one.title.lower() for one in known)
    return Rows(("night (UTC)", "model", *numbers, "labels", "warned of"), rows, numbers)


def _labels(night: "Night") -> str:
    from visionflows.reports.page import percent

    counts, whole = night.tally.labels, night.tally.ok
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{label} {percent(count / whole)}" for label, count in order[:LABELS]]
    return ", ".join([*told, *(["…"] if len(order) > LABELS else [])]) or "–"
