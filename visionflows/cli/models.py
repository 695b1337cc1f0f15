"""`visionflows models`: what the store holds, and which version production means."""

from typing import Annotated

import typer

from visionflows.cli.options import Store, prefect_on_this_machine

models_app = typer.Typer(
    help="The models in the store: list, show, promote.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Model = Annotated[str, typer.Argument(help="A model, as in --model.")]


@models_app.command("list", epilog="Example: visionflows models list --store store")
def models_list(store: Store = "store") -> None:
    """Every published version, newest first, with its aliases and error rate."""
    from visionflows.model.registry import catalogue

    for info, aliases in catalogue(store):
        line = f"{info.name}@{info.version}  error rate {info.metrics.error_rate:.4f}"
        typer.echo(f"{line}  {' '.join(aliases)}".rstrip())


@models_app.command("show", epilog="Example: visionflows models show pets@latest")
def models_show(model: Model, store: Store = "store") -> None:
    """What a model's model.json says, checked against the bundle's files."""
    from visionflows.model.bundle import load
    from visionflows.model.registry import find

    typer.echo(load(find(model, store)).info.text().decode())


@models_app.command("promote", epilog="Example: visionflows models promote pets@latest")
def models_promote(
    model: Model,
    alias: Annotated[str, typer.Option(help="The alias that means it from now on.")] = "production",
    store: Store = "store",
) -> None:
    """Let production mean a version; with PREFECT_API_URL set, the server hears of it."""
    prefect_on_this_machine()
    from visionflows.orchestration import events

    events.promote(model, store, alias)
