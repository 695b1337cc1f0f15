"""`visionflows models`: what the store holds, which version production means, and who said so."""

from typing import Annotated

import typer

from visionflows.cli.completion import complete_model
from visionflows.cli.options import Json, Store, prepare_prefect

models_app = typer.Typer(
    help="The models in the store: list, show, compare, promote, history.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Model = Annotated[
    str, typer.Argument(help="A model, as in --model.", autocompletion=complete_model)
]


@models_app.command("list", epilog="Example: visionflows models list --store store")
def models_list(json: Json = False, store: Store = "store") -> None:
    """Every published version, newest first, with its aliases and error rate."""
    from visionflows.cli import model_tables as tables
    from visionflows.cli.terminal import tell, tell_json
    from visionflows.models.registry import catalogue

    found = catalogue(store)
    if json:
        tell_json([tables.listed(one) for one in found])
    elif found:
        tell(tables.catalogue(found))
    else:
        tell(f"no models in {store} yet; `visionflows train` makes one")


@models_app.command("show", epilog="Example: visionflows models show pets@latest")
def models_show(model: Model, json: Json = False, store: Store = "store") -> None:
    """What is known of a model, checked against the bundle's files; as JSON its model.json."""
    from visionflows.cli import model_tables as tables
    from visionflows.cli.terminal import heading, tell
    from visionflows.models.artifact import load
    from visionflows.models.promotion_history import promotions
    from visionflows.models.registry import aliases_of, find

    found = load(find(model, store))
    info = found.info
    if json:
        typer.echo(info.text().decode())
        return
    aliases = [
        name for name, means in aliases_of(info.name, store).items() if means == info.version
    ]
    mine = [one for one in promotions(info.name, store) if one.version == info.version]
    tell(*tables.model(info, aliases, str(found.storage)))
    if mine:
        tell(heading("Promotions"), tables.history(mine))


@models_app.command(
    "compare", epilog="Example: visionflows models compare pets@latest pets@production"
)
def models_compare(
    a: Annotated[
        str,
        typer.Argument(
            help="A version, asked as `retrain` asks a new one.", autocompletion=complete_model
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(help="What it would take the place of.", autocompletion=complete_model),
    ],
    data: Annotated[
        str, typer.Option(help="Where the images of A's dataset are, if not in the store any more.")
    ] = "",
    output: Annotated[
        str,
        typer.Option(
            help="Where the page goes [default: compare.html; with --json none]",
            show_default=False,
        ),
    ] = "",
    json: Json = False,
    store: Store = "store",
) -> None:
    """What flips between two versions, on the same images that neither was trained on."""
    from visionflows.cli import model_tables as tables
    from visionflows.cli.terminal import tell, tell_json
    from visionflows.reports.comparison import comparison_report
    from visionflows.storage import split_location
    from visionflows.training.comparison.disagreements import compare_versions, comparison_dict

    page = output or ("" if json else "compare.html")
    folder, name = split_location(page or ".")
    if page:
        folder.check_writable()  # told before the work
    comparison, images = compare_versions(a, b, store, data)
    if page:
        folder.write(name, comparison_report(comparison, images).encode())
    if json:
        tell_json(comparison_dict(comparison))
    else:
        tell(*tables.comparison(comparison), "", f"page  {page}")


@models_app.command("promote", epilog="Example: visionflows models promote pets@latest")
def models_promote(
    model: Model,
    alias: Annotated[str, typer.Option(help="The alias that means it from now on.")] = "production",
    json: Json = False,
    store: Store = "store",
) -> None:
    """Let production mean a version, a former one too; a server that is named hears of it."""
    prepare_prefect()
    from visionflows.cli.terminal import tell, tell_json
    from visionflows.models.promotion_history import promotions
    from visionflows.orchestration import events

    name = events.promote(model, store, alias).partition("@")[0]
    kept = next(one for one in promotions(name, store) if one.alias == alias)
    if json:
        tell_json(kept.as_dict())
    elif kept.before not in ("", kept.version):
        tell(f"before it was {name}@{kept.before}; promote that to go back")


@models_app.command("history", epilog="Example: visionflows models history pets")
def models_history(model: Model, json: Json = False, store: Store = "store") -> None:
    """Who promoted what, when and why, newest first."""
    from visionflows.cli import model_tables as tables
    from visionflows.cli.terminal import tell, tell_json
    from visionflows.models.promotion_history import promotions, without_effect
    from visionflows.models.registry import aliases_of, find

    name = model.partition("@")[0]
    find(name, store)  # a name that is none is told, with those that are
    found = promotions(name, store)
    if json:
        tell_json([one.as_dict() for one in found])
    elif found:
        tell(tables.history(found), *without_effect(found, aliases_of(name, store)))
    else:
        tell(f"{name}: no promotion yet; `visionflows models promote {name}@latest` makes one")
