"""`visionflows corrections`: what people said of scored images, and how right a model really is."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visionflows.review.audit import Estimate

corrections_app = typer.Typer(
    help="What people said of scored images: add, audit, to and from Label Studio.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Output = Annotated[str, typer.Argument(help="The output of a scoring run.")]
Json = Annotated[bool, typer.Option("--json", help="The same as JSON, for machines.")]


@corrections_app.command(
    "add", epilog="Example: visionflows corrections add scores/night corrections.csv"
)
def corrections_add(
    output: Output,
    files: Annotated[list[str], typer.Argument(help="What review.html saved.")],
    json: Json = False,
) -> None:
    """Keep corrections in the output of a run; its report says how right its labels are."""
    from visionflows.scoring.review_results import add

    _tell(add(output, files), json)


@corrections_app.command("audit", epilog="Example: visionflows corrections audit scores/night")
def corrections_audit(
    locations: Annotated[
        list[str], typer.Argument(help="Files of corrections, or outputs they were added to.")
    ],
    json: Json = False,
) -> None:
    """How right each audited run is, from the random sample that people looked at."""
    from visionflows.review.audit import estimates
    from visionflows.review.corrections import read_corrections

    _tell(estimates(read_corrections(locations)), json)


@corrections_app.command(
    "to-label-studio",
    epilog="Example: visionflows corrections to-label-studio scores/night > tasks.json",
)
def corrections_to_label_studio(
    output: Output,
    prefix: Annotated[
        str,
        typer.Option(
            help="What stands before a path in an image's address [default: the input and a /]",
            show_default=False,
        ),
    ] = "",
    labelling: Annotated[
        bool, typer.Option("--labelling", help="Print the project's labelling interface instead.")
    ] = False,
) -> None:
    """The pictures of review.html as tasks to import into Label Studio."""
    from visionflows.cli.terminal import tell_json
    from visionflows.review import label_studio
    from visionflows.scoring.review_results import asked

    run, rows = asked(output)
    if labelling:
        typer.echo(label_studio.labelling(run.model.classes), nl=False)
    else:
        root = f"{(run.root or run.input).rstrip('/')}/"
        tell_json(label_studio.tasks(rows, prefix or root))


@corrections_app.command(
    "from-label-studio",
    epilog="Example: visionflows corrections from-label-studio export.json > corrections.csv",
)
def corrections_from_label_studio(
    export: Annotated[str, typer.Argument(help="Its export, as JSON.")],
) -> None:
    """The answers of a Label Studio export as corrections.csv."""
    from visionflows.errors import StorageError
    from visionflows.review.corrections import written
    from visionflows.review.label_studio import corrections_in
    from visionflows.storage import split_location

    folder, name = split_location(export)
    try:
        data = folder.read(name)
    except OSError as error:
        raise StorageError(
            f"{export}: cannot be read ({error.strerror}); name the export"
        ) from error
    typer.echo(written(corrections_in(export, data)), nl=False)


def _tell(found: "list[Estimate]", json: bool) -> None:
    from visionflows.cli.terminal import Rows, tell, tell_json

    if json:
        tell_json([one.as_dict() for one in found])
        return
    rows = [
        (one.scored or "–", one.model or "–", f"{one.looked_at} of {one.drawn}", one.words)
        for one in found
    ]
    if rows:
        tell(Rows(("run ended", "model", "looked at", "audit"), rows))
    else:
        tell("no picture of an audit was looked at yet: the group Audit of review.html")
