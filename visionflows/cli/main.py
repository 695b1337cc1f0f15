"""The command line: each command the same code as its flow.

    visionflows demo
    visionflows train PETS --name pets --labels uppercase
    visionflows score inbox --model pets --output scores/night

Exit status: 0 done; 1 the run failed; 2 wrong use. An error is one line; --debug adds where it
comes from. Nothing heavy is imported before a command runs.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from visionflows.cli.models import models_app
from visionflows.cli.options import (
    Architecture,
    Labels,
    ModelName,
    Output,
    Store,
    ValidPct,
    command_of,
    prefect_on_this_machine,
    settings_of,
)
from visionflows.cli.serve import serve_app

app = typer.Typer(
    name="visionflows",
    help="Fine-tune an image classifier on your photos, and score folders of images into CSV.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help answers in a third of the time
    pretty_exceptions_enable=False,
    add_completion=False,
)
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
app.add_typer(models_app, name="models")
app.add_typer(serve_app)  # its commands, beside these


@app.callback()
def _options(debug: Debug = False) -> None:
    """Options before the command."""
    os.environ["VISIONFLOWS_DEBUG"] = "1" if debug else ""


@app.command(epilog="Example: visionflows demo")
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo works; made anew.")] = Path("demo"),
) -> None:
    """The whole job on the embedded digits: no network, no server, under two minutes."""
    prefect_on_this_machine()
    from flows.demo import demo as flow
    from visionflows.cli.demo import show

    show(folder, flow(folder))


@app.command(
    cls=command_of("visionflows.training.settings:TrainSettings"),
    epilog="Example: visionflows train PETS --name pets --labels uppercase --epochs 1",
)
def train(
    ctx: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A fastai name (PETS), an http(s):// archive, an archive, a folder, or digits."
        ),
    ],
    name: Annotated[str, typer.Option(help="What the model will be called.")],
    labels: Labels = "folder",
    architecture: Architecture = None,
    image_size: int | None = None,
    resize: str | None = None,
    epochs: int | None = None,
    freeze_epochs: int | None = None,
    lr: str | None = None,
    batch_size: int | None = None,
    augment: bool | None = None,
    pretrained: str | None = None,
    patience: int | None = None,
    keep: str | None = None,
    precision: str | None = None,
    seed: int | None = None,
    valid_pct: ValidPct = 0.2,
    workers: int | None = None,
    max_pixels: int | None = None,
    decode: str | None = None,
    sha256: Annotated[str, typer.Option(help="What the archive must be.")] = "",
    export_fastai: Annotated[
        bool, typer.Option("--export-fastai", help="Also write export.pkl for fastai.")
    ] = False,
    store: Store = "store",
) -> None:
    """Fine-tune a classifier on a dataset and publish it as a model bundle."""
    prefect_on_this_machine()
    from flows.train import train as flow
    from visionflows.training.settings import TrainSettings

    where = flow(
        dataset,
        name,
        labels=labels,
        settings=settings_of(TrainSettings, ctx.params),
        valid_pct=valid_pct,
        store=store,
        sha256=sha256,
        export_fastai=export_fastai,
    )
    typer.echo(f"model   {where}\nreport  {where}/report.html")


@app.command(
    cls=command_of("visionflows.scoring.run:ScoreSettings"),
    epilog="Example: visionflows score inbox --model pets --output scores/night",
)
def score(
    ctx: typer.Context,
    input: Annotated[str, typer.Argument(help="The folder of images.")],
    model: ModelName,
    output: Output = "",
    batch_size: int | None = None,
    workers: int | None = None,
    precision: str | None = None,
    device: str | None = None,
    shard_size: int | None = None,
    max_pixels: int | None = None,
    decode: str | None = None,
    top: int | None = None,
    only_new: Annotated[bool, typer.Option("--only-new")] = False,
    restart: Annotated[bool, typer.Option("--restart")] = False,
    max_error_rate: float | None = None,
    wait: float | None = None,
    compile: Annotated[bool, typer.Option("--compile")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    store: Store = "store",
) -> None:
    """Score every image in a folder into predictions.csv: one row for every file."""
    prefect_on_this_machine()
    from visionflows.scoring.run import ScoreSettings

    settings = settings_of(ScoreSettings, ctx.params)
    if dry_run:
        from visionflows.scoring.run import ScoringRun, open_engine

        engine = open_engine(model, store, settings)
        where = output or f"{store}/scores/<time>"
        for name, value in ScoringRun(input, where, engine, settings).preview().items():
            typer.echo(f"{name:10} {value:,}" if isinstance(value, int) else f"{name:10} {value}")
        return
    from flows.score import score as flow

    run = flow(input, model, output=output, store=store, settings=settings)
    for line in told(run):
        typer.echo(line)


def told(run: dict) -> list[str]:
    """What a person wants to know of a scoring run, a line each."""
    books = run["books"]
    lines = [f"{books['found']} files found: {books['ok']} ok, {books['failed']} failed"]
    if not books["found"]:
        lines = [f"{run['input']}: no images there; the CSV has its header and no row"]
    lines += [f"  {count:>8}  {label}" for label, count in books["by_label"].items()]
    statuses = (item for item in books["by_status"].items() if item[0] != "ok")
    lines += [f"  {count:>8}  {status}" for status, count in statuses]
    endings = books.get("ignored_by_ending", {}).items()
    lines += [f"  {count:>8}  {ending}: no picture" for ending, count in endings]
    names = ("predictions.csv", "report.html", "run.json")
    return [*lines, *(f"{run['output']}/{name}" for name in names)]


@app.command(
    cls=command_of("visionflows.engine.base:EngineSettings"),
    epilog="Example: visionflows predict a.jpg b.jpg --model pets",
)
def predict(
    ctx: typer.Context,
    images: Annotated[list[str], typer.Argument(help="Image files, s3://bucket/key too.")],
    model: ModelName,
    max_pixels: int | None = None,
    decode: str | None = None,
    store: Store = "store",
) -> None:
    """Label, index and probabilities of a few images: the tutorial's learn.predict."""
    import torch

    from visionflows.engine import EngineSettings
    from visionflows.scoring.predict import predict as rows_of
    from visionflows.scoring.run import open_engine

    one = {"batch_size": 1, "workers": 1}
    engine = open_engine(model, store, settings_of(EngineSettings, ctx.params | one))
    failed = False
    for row in rows_of(images, engine):
        failed |= row.status != "ok"
        if row.status != "ok":
            typer.echo(f"{row.name}: {row.status}: {row.error}")
            continue
        index = int(row.probabilities.argmax())
        answer = (engine.model.classes[index], torch.tensor(index), torch.tensor(row.probabilities))
        typer.echo(f"{row.name}: {answer}" if len(images) > 1 else f"{answer}")
    raise typer.Exit(int(failed))


def main() -> None:
    """The program: runs a command and turns an error of ours into one line and its exit status."""
    from visionflows.errors import VisionflowsError

    try:
        app()
    except VisionflowsError as error:
        if os.environ.get("VISIONFLOWS_DEBUG"):
            logging.getLogger("visionflows").exception("the run failed")
        typer.echo(f"visionflows: {error}", err=True)
        sys.exit(error.exit_status)
    except Exception as error:
        if os.environ.get("VISIONFLOWS_DEBUG"):
            raise
        typer.echo(
            f"visionflows: {type(error).__name__}: {error} (not foreseen: run it as "
            "`visionflows --debug …` and report what it shows)",
            err=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
