"""`visionflows evaluate`: the metrics of a model on labelled images."""

from typing import Annotated

import typer

from visionflows.cli.options import (
    ENGINE_SETTINGS,
    ClassNames,
    Labels,
    LabelSep,
    Missing,
    Store,
    name_classes,
    prepare_prefect,
    settings_command,
)

evaluate_app = typer.Typer(rich_markup_mode=None)


@evaluate_app.command(
    cls=settings_command(
        ENGINE_SETTINGS, ("precision", "device", "engine", "max_pixels", "decode")
    ),
    epilog="Example: visionflows evaluate pets labelled-photos --labels folder",
)
def evaluate(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Model, as for --model of score.")],
    dataset: Annotated[str, typer.Argument(help="Labelled images, as for train.")],
    labels: Labels = "folder",
    class_names: ClassNames = "",
    label_sep: LabelSep = "",
    missing: Missing = "error",
    output: Annotated[
        str,
        typer.Option(
            help="Folder or s3:// URI of the results [default: STORE/evaluations/<time>]",
            show_default=False,
        ),
    ] = "",
    sha256: Annotated[str, typer.Option(help="Expected SHA-256 of the archive.")] = "",
    store: Store = "store",
) -> None:
    """Evaluate a model on labelled images that it was not trained on."""
    prepare_prefect()
    from flows.evaluate import evaluate as evaluate_flow
    from visionflows.cli.results import evaluation_lines
    from visionflows.cli.terminal import print_summary

    result = evaluate_flow(**name_classes(ctx.params), settings=ctx.obj)
    print_summary(*evaluation_lines(result))
