"""`visionflows corrections`: corrected labels of a scoring run, and its audited accuracy."""

from typing import TYPE_CHECKING, Annotated

import typer

from visionflows.cli.options import Json, command_group

if TYPE_CHECKING:
    from visionflows.review.audit import Estimate

corrections_app = command_group(
    "Corrected labels of scored images: add, audit, exchange with Label Studio."
)
ScoringOutput = Annotated[str, typer.Argument(help="Output of a scoring run.")]


@corrections_app.command(
    "add", epilog="Example: visionflows corrections add scores/night corrections.csv"
)
def add_corrections(
    output: ScoringOutput,
    files: Annotated[list[str], typer.Argument(help="Files that review.html saved.")],
    json: Json = False,
) -> None:
    """Add corrections to the output of a run; its report shows the estimated accuracy."""
    from visionflows.scoring.review_results import add_corrections

    _print_estimates(add_corrections(output, files), json)


@corrections_app.command("audit", epilog="Example: visionflows corrections audit scores/night")
def audit(
    locations: Annotated[
        list[str], typer.Argument(help="corrections.csv files, or outputs with corrections.")
    ],
    json: Json = False,
) -> None:
    """Estimate the accuracy of each run from its random sample of reviewed images."""
    from visionflows.review.audit import estimate_accuracy
    from visionflows.review.corrections import read_corrections

    _print_estimates(estimate_accuracy(read_corrections(locations)), json)


@corrections_app.command(
    "to-label-studio",
    epilog="Example: visionflows corrections to-label-studio scores/night > tasks.json",
)
def export_label_studio(
    output: ScoringOutput,
    prefix: Annotated[
        str, typer.Option(help="Prefix of image paths in the tasks [default: INPUT/ of the run]")
    ] = "",
    labelling: Annotated[
        bool, typer.Option("--labelling", help="Print the project's labelling interface instead.")
    ] = False,
) -> None:
    """Print the images of review.html as tasks to import into Label Studio."""
    from visionflows.cli.terminal import print_json, print_text
    from visionflows.review import label_studio
    from visionflows.scoring.review_results import review_questions

    run, rows = review_questions(output)
    if labelling:
        print_text(
            label_studio.labeling_config(run.model.classes, run.model.multi_label).rstrip("\n")
        )
    else:
        root = f"{(run.root or run.input).rstrip('/')}/"
        print_json(label_studio.to_tasks(rows, prefix or root))


@corrections_app.command(
    "from-label-studio",
    epilog="Example: visionflows corrections from-label-studio export.json > corrections.csv",
)
def import_label_studio(
    export: Annotated[str, typer.Argument(help="JSON export of Label Studio.")],
) -> None:
    """Print the annotations of a Label Studio export as corrections.csv."""
    from visionflows.review.corrections import format_corrections, read_file
    from visionflows.review.label_studio import parse_export

    _, data = read_file(export)
    typer.echo(format_corrections(parse_export(export, data)), nl=False)  # bytes: UTF-8


def _print_estimates(estimates: "list[Estimate]", json: bool) -> None:
    from visionflows.cli.terminal import Rows, print_result

    rows = [
        (one.scored or "–", one.model or "–", f"{one.reviewed} of {one.drawn}", one.description)
        for one in estimates
    ]
    none = "no image of an audit sample was reviewed yet: see Audit in review.html"
    table = Rows(("run ended", "model", "reviewed", "audit"), rows) if rows else none
    print_result(json, [one.as_dict() for one in estimates], table)
