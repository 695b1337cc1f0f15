"""`visionflows models`: list, show, compare and promote the models in a store."""

from typing import Annotated

import typer

from visionflows.cli.completion import complete_model
from visionflows.cli.options import Json, Store, command_group, prepare_prefect

models_app = command_group("Models in the store: list, show, compare, promote, history.")
Model = Annotated[
    str,
    typer.Argument(
        help="pets (its latest version), pets@production or pets@VERSION.",
        autocompletion=complete_model,
    ),
]


@models_app.command("list", epilog="Example: visionflows models list --store store")
def list_models(json: Json = False, store: Store = "store") -> None:
    """List every published version, newest first, with its aliases and error rate."""
    from visionflows.cli.model_tables import version_record, version_table
    from visionflows.cli.terminal import print_result
    from visionflows.models.registry import list_models

    versions = list_models(store)
    none = f"no models in {store} yet; `visionflows train` makes one"
    table = version_table(versions) if versions else none
    print_result(json, [version_record(one) for one in versions], table)


@models_app.command("show", epilog="Example: visionflows models show pets@latest")
def show_model(model: Model, json: Json = False, store: Store = "store") -> None:
    """Show metrics, data, lineage and settings of a model, after verifying its files.

    --json prints its model.json.
    """
    from visionflows.cli.model_tables import model_page, promotion_table
    from visionflows.cli.terminal import heading, print_parts, print_text
    from visionflows.models.artifact import load_model
    from visionflows.models.promotion_history import read_promotions
    from visionflows.models.registry import find_model, read_aliases

    found = load_model(find_model(model, store))
    info = found.info
    if json:
        print_text(info.text().decode())
        return
    aliases = read_aliases(info.name, store).items()
    names = [alias for alias, version in aliases if version == info.version]
    promoted = [one for one in read_promotions(info.name, store) if one.version == info.version]
    print_parts(*model_page(info, names, str(found.storage)))
    if promoted:
        print_parts(heading("Promotions"), promotion_table(promoted))


@models_app.command(
    "compare", epilog="Example: visionflows models compare pets@latest pets@production"
)
def compare_models(
    a: Annotated[str, typer.Argument(help="The candidate version.", autocompletion=complete_model)],
    b: Annotated[
        str,
        typer.Argument(help="The version it would replace.", autocompletion=complete_model),
    ],
    data: Annotated[
        str, typer.Option(help="Folder of the first model's dataset, if it is not in the store.")
    ] = "",
    output: Annotated[
        str,
        typer.Option(
            help="Path or s3:// URI of the page [default: compare.html; with --json: none]"
        ),
    ] = "",
    json: Json = False,
    store: Store = "store",
) -> None:
    """Compare the labels of two versions on images that neither was trained on."""
    from visionflows.cli.model_tables import comparison_page
    from visionflows.cli.terminal import print_result
    from visionflows.reports.comparison import render_comparison
    from visionflows.storage import split_location
    from visionflows.training.comparison import compare_versions

    page = output or ("" if json else "compare.html")
    folder, name = split_location(page or ".")
    if page:
        folder.check_writable()  # fails before the work, not after it
    comparison = compare_versions(a, b, store, data)
    if page:
        folder.write(name, render_comparison(comparison, str(folder)).encode())
    parts = [*comparison_page(comparison), "", f"page  {page}"]
    print_result(json, comparison.as_dict(), *parts)


@models_app.command("promote", epilog="Example: visionflows models promote pets@latest")
def promote_model(
    model: Model,
    alias: Annotated[str, typer.Option(help="Alias to point at the version.")] = "production",
    json: Json = False,
    store: Store = "store",
) -> None:
    """Point production (or --alias) at a version, and send an event to a configured server."""
    prepare_prefect()
    from visionflows.cli.terminal import print_json, print_parts
    from visionflows.models.promotion_history import read_promotions
    from visionflows.orchestration import events

    name = events.promote(model, store, alias).partition("@")[0]
    latest = next(one for one in read_promotions(name, store) if one.alias == alias)
    if json:
        print_json(latest.as_dict())
    elif latest.before not in ("", latest.version):
        print_parts(f"{alias} was {name}@{latest.before}; promote it again to roll back")


@models_app.command("history", epilog="Example: visionflows models history pets")
def show_promotions(model: Model, json: Json = False, store: Store = "store") -> None:
    """List promotions, newest first: what was promoted, by whom, when and why."""
    from visionflows.cli.model_tables import promotion_table
    from visionflows.cli.terminal import print_result
    from visionflows.models.promotion_history import find_unapplied, read_promotions
    from visionflows.models.registry import find_model, read_aliases

    name = model.partition("@")[0]
    find_model(name, store)  # raises for an unknown name
    found = read_promotions(name, store)
    none = f"{name}: no promotion yet; `visionflows models promote {name}@latest` makes one"
    table = promotion_table(found) if found else none
    unapplied = find_unapplied(found, read_aliases(name, store))
    print_result(json, [one.as_dict() for one in found], table, *unapplied)
