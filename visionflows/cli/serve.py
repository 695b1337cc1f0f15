"""`visionflows up` and `visionflows doctor`."""

import os
from typing import Annotated

import typer

from visionflows.cli.options import Store, settings_command

serve_app = typer.Typer(rich_markup_mode=None)


@serve_app.command(
    cls=settings_command("visionflows.serve.settings:UpSettings"),
    epilog="Example: visionflows up --port 4200",
)
def up(ctx: typer.Context) -> None:
    """Run a Prefect server with its UI, a worker and the deployments here, until Ctrl-C."""
    from visionflows.orchestration.logs import log_to_terminal
    from visionflows.serve import up as server

    log_to_terminal(bool(os.environ.get("VISIONFLOWS_DEBUG")))
    server.up(ctx.obj)


@serve_app.command(epilog="Example: visionflows doctor s3://bucket/inbox")
def doctor(
    locations: Annotated[
        list[str] | None, typer.Argument(help="Folders or s3:// URIs to check.")
    ] = None,
    store: Store = "store",
) -> None:
    """Check versions, GPU and driver, storage and Prefect server; say what to do about each."""
    from visionflows.serve.doctor import examine

    has_failed = False
    for finding in examine([store, *(locations or [])]):
        has_failed |= finding.status == "FAIL"
        typer.echo(f"{finding.status:4}  {finding.subject}: {finding.message}")
        if finding.fix:
            typer.echo(f"      do: {finding.fix}")
    raise typer.Exit(int(has_failed))
