"""`visionflows up`, `doctor` and `retrain`: the commands that keep the job running by itself."""

import os
from pathlib import Path
from typing import Annotated

import typer

from visionflows.cli.completion import complete_name
from visionflows.cli.options import (
    Corrections,
    CorrectionsInValidation,
    Int8,
    Labels,
    Output,
    Store,
    command_of,
    prepare_prefect,
    settings_of,
    train_options,
    with_options_of,
)
from visionflows.cli.program import when_stopped

serve_app = typer.Typer(rich_markup_mode=None)


@serve_app.command(
    cls=command_of("visionflows.serve.settings:UpSettings"),
    epilog="Example: visionflows up --port 4200",
)
def up(
    ctx: typer.Context,
    host: str | None = None,
    port: int | None = None,
    url: str | None = None,
    state: Path | None = None,
    database: Annotated[str | None, typer.Option(envvar="VISIONFLOWS_DATABASE")] = None,
    password_file: Path | None = None,
    deployments: Path | None = None,
    store: Store = "store",
) -> None:
    """Prefect server, UI, work pool, worker and all deployments on this machine, until Ctrl-C."""
    from visionflows.orchestration.logs import log_to_terminal
    from visionflows.serve import up as server
    from visionflows.serve.settings import UpSettings

    log_to_terminal(bool(os.environ.get("VISIONFLOWS_DEBUG")))
    server.up(settings_of(UpSettings, ctx.params))


@serve_app.command(epilog="Example: visionflows doctor s3://bucket/inbox")
def doctor(
    locations: Annotated[
        list[str] | None, typer.Argument(help="Places to reach: folders or s3://bucket/prefix.")
    ] = None,
    store: Store = "store",
) -> None:
    """Versions, GPU and driver, places, Prefect server: how each is, and what to do about it."""
    from visionflows.serve.doctor import examine

    broken = False
    for finding in examine([store, *(locations or [])]):
        broken |= finding.mark == "FAIL"
        typer.echo(f"{finding.mark:4}  {finding.what}: {finding.message}")
        if finding.todo:
            typer.echo(f"      do: {finding.todo}")
    raise typer.Exit(int(broken))


@serve_app.command(
    cls=command_of("visionflows.training.settings:TrainSettings"),
    epilog="Example: visionflows retrain PETS --name pets --labels uppercase",
)
@with_options_of(train_options)
def retrain(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help="The dataset as it is now, as for train.")],
    name: Annotated[
        str, typer.Option(help="What the model is called.", autocompletion=complete_name)
    ],
    labels: Labels = "folder",
    inbox: Annotated[
        str, typer.Option(help="Score this afterwards with what is production then.")
    ] = "",
    output: Output = "",
    int8: Int8 = False,
    corrections: Corrections = None,
    corrections_in_validation: CorrectionsInValidation = False,
    store: Store = "store",
) -> None:
    """Train, compare with production on unseen images, promote if better, score what waits."""
    prepare_prefect()
    when_stopped("the same command begins anew, with what was downloaded")
    from flows.retrain import retrain as flow
    from visionflows.training.settings import TrainSettings

    settings = settings_of(TrainSettings, ctx.params)
    result = flow(
        dataset,
        name,
        labels=labels,
        settings=settings,
        valid_pct=ctx.params["valid_pct"],
        inbox=inbox,
        output=output,
        store=store,
        int8=int8,
        corrections=tuple(corrections or ()),
        corrections_in_validation=corrections_in_validation,
    )
    stays = f"not promoted, production stays {result.get('production')}"
    typer.echo(f"{result['model']}: {'promoted' if result['promoted'] else stays}: {result['why']}")
