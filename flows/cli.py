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

from flows.cli_models import models_app
from flows.cli_options import ModelName, Store, prefect_on_this_machine, settings_of
from flows.cli_serve import serve_app

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
    from flows.demo import demo as run

    run(folder)


@app.command(epilog="Example: visionflows train PETS --name pets --labels uppercase --epochs 1")
def train(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A fastai name (PETS), an http(s):// archive, an archive, a folder, or digits."
        ),
    ],
    name: Annotated[str, typer.Option(help="What the model will be called.")],
    labels: Annotated[
        str, typer.Option(help="folder, uppercase, regex:PATTERN with one group, or csv:PLACE.")
    ] = "folder",
    arch: Annotated[str, typer.Option(help="Any torchvision or timm architecture.")] = "resnet34",
    image_size: Annotated[int, typer.Option(help="Side of the square shown, in pixels.")] = 224,
    resize: Annotated[str, typer.Option(help="crop, squish or pad.")] = "crop",
    epochs: Annotated[int, typer.Option(help="Epochs after the frozen ones.")] = 1,
    freeze_epochs: Annotated[
        int | None, typer.Option(help="Epochs with the body frozen [default: 1; 0 if untrained]")
    ] = None,
    lr: Annotated[str, typer.Option(help="Base learning rate, or find.")] = "0.002",
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 64,
    augment: Annotated[bool, typer.Option(help="Flip, rotate, zoom and light.")] = True,
    pretrained: Annotated[
        str, typer.Option(help="default, none, or the place of a state dict.")
    ] = "default",
    patience: Annotated[int, typer.Option(help="Stop after so many worse epochs; 0: never.")] = 0,
    keep: Annotated[str, typer.Option(help="Weights of the best epoch or the last.")] = "best",
    precision: Annotated[str, typer.Option(help="auto or float32.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of split, weights, order, augmentation.")] = 42,
    valid_pct: Annotated[float, typer.Option(help="Share of the images to validate on.")] = 0.2,
    workers: Annotated[
        int | None, typer.Option(help="Loader processes [default: as many as cores]")
    ] = None,
    max_pixels: Annotated[int, typer.Option(help="Larger images are left out.")] = 100_000_000,
    sha256: Annotated[str | None, typer.Option(help="What the archive must be.")] = None,
    export_fastai: Annotated[
        bool, typer.Option("--export-fastai", help="Also write export.pkl for fastai.")
    ] = False,
    store: Store = "store",
) -> None:
    """Fine-tune a classifier on a dataset and publish it as a model bundle."""
    prefect_on_this_machine()
    from flows.train import train as flow
    from tasks.learner import TrainSettings

    settings = settings_of(
        TrainSettings,
        **{"architecture": arch, "image_size": image_size, "resize": resize, "epochs": epochs},
        **{"freeze_epochs": freeze_epochs, "lr": lr, "batch_size": batch_size, "seed": seed},
        **{"augment": augment, "pretrained": pretrained, "patience": patience, "keep": keep},
        **{"precision": precision, "workers": workers, "max_pixels": max_pixels},
    )
    where = flow(
        dataset,
        name,
        labels=labels,
        settings=settings,
        valid_pct=valid_pct,
        store=store,
        sha256=sha256 or "",
        export_fastai=export_fastai,
    )
    typer.echo(f"model   {where}\nreport  {where}/report.html")


@app.command(epilog="Example: visionflows score inbox --model pets --output scores/night")
def score(
    input: Annotated[str, typer.Argument(help="The folder of images.")],
    model: ModelName,
    output: Annotated[
        str | None, typer.Option(help="Where the CSV goes [default: STORE/scores/<time>]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a forward pass [default: 16, on a GPU 256]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Decoders or streams [default: by the cores]")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    shard_size: Annotated[int, typer.Option(help="Files a part, the unit of resuming.")] = 1000,
    max_pixels: Annotated[int, typer.Option(help="Larger images get no label.")] = 100_000_000,
    top: Annotated[int, typer.Option(help="Columns with the best K classes, in order.")] = 0,
    only_new: Annotated[
        bool, typer.Option("--only-new", help="Take over rows this output has of the same files.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where another job was left unfinished.")
    ] = False,
    max_error_rate: Annotated[
        float, typer.Option(help="Fail if more than this share of 20 or more files do.")
    ] = 0.05,
    wait: Annotated[float, typer.Option(help="Seconds to wait for another run's end.")] = 0,
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile the network: slow start, faster run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    store: Store = "store",
) -> None:
    """Score every image in a folder into predictions.csv: one row for every file."""
    prefect_on_this_machine()
    from tasks.predict import ScoreSettings

    settings = settings_of(
        ScoreSettings,
        **{"batch_size": batch_size, "workers": workers, "precision": precision},
        **{"device": device, "shard_size": shard_size, "max_pixels": max_pixels, "top": top},
        **{"only_new": only_new, "restart": restart, "max_error_rate": max_error_rate},
        **{"wait": wait, "compile": compile},
    )
    if dry_run:
        from tasks.predict import Scoring, open_engine

        engine = open_engine(model, store, settings)
        where = output or f"{store}/scores/<time>"
        for name, value in Scoring(input, where, engine, settings).preview().items():
            typer.echo(f"{name:10} {value:,}" if isinstance(value, int) else f"{name:10} {value}")
        return
    from flows.score import score as flow

    run = flow(input, model, output=output or "", store=store, settings=settings)
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
    names = ("predictions.csv", "report.html", "run.json")
    return [*lines, *(f"{run['output']}/{name}" for name in names)]


@app.command(epilog="Example: visionflows predict a.jpg b.jpg --model pets")
def predict(
    images: Annotated[list[str], typer.Argument(help="Image files, s3://bucket/key too.")],
    model: ModelName,
    store: Store = "store",
) -> None:
    """Label, index and probabilities of a few images: the tutorial's learn.predict."""
    import torch

    from tasks.answers import answers
    from tasks.engine import EngineSettings
    from tasks.predict import open_engine

    engine = open_engine(model, store, EngineSettings(batch_size=1, workers=1))
    failed = False
    for row in answers(images, engine):
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
    from tasks.errors import VisionflowsError

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
