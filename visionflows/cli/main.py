"""The command line: a command takes the steps of its flow, or is one where a server is named.

    visionflows demo
    visionflows train PETS --name pets --labels uppercase
    visionflows score inbox --model pets --output scores/night

Exit status: 0 done; 1 the run failed; 2 wrong use; 130, 143 and 129 stopped by Ctrl-C, TERM and
HUP. An error is one line, and so is a stop; --debug adds where an error comes from. Nothing heavy
is imported before a command runs. What a signal does is in visionflows.cli.program.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from visionflows.cli.completion import asked, complete, complete_name
from visionflows.cli.corrections import corrections_app
from visionflows.cli.history import history_app
from visionflows.cli.models import models_app
from visionflows.cli.options import (
    Corrections,
    CorrectionsInValidation,
    Int8,
    Labels,
    ModelName,
    Output,
    Store,
    command_of,
    prepare_prefect,
    quiet_prefect,
    settings_of,
    train_options,
    with_options_of,
)
from visionflows.cli.program import leave_signals, run, when_stopped
from visionflows.cli.serve import serve_app

app = typer.Typer(
    name="visionflows",
    help="Fine-tune an image classifier on your photos, and score folders of images into CSV.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help answers in a third of the time
    pretty_exceptions_enable=False,
)
GOES_ON = "the same command goes on where it was"
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]
app.add_typer(models_app, name="models")
app.add_typer(corrections_app, name="corrections")
app.add_typer(serve_app)  # its commands, beside these
app.add_typer(history_app)


@app.callback()
def _options(ctx: typer.Context, debug: Debug = False) -> None:
    """Options before the command."""
    os.environ["VISIONFLOWS_DEBUG"] = "1" if debug else ""
    if ctx.invoked_subcommand == "up":
        leave_signals()
    elif os.environ.get("VISIONFLOWS_S3_BLOCK"):
        quiet_prefect()  # which any command may ask for the block


@app.command(epilog="Example: visionflows demo")
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo works; made anew.")] = Path("demo"),
) -> None:
    """The whole job on the embedded digits: no network, no server, under two minutes."""
    prepare_prefect()
    from flows.demo import demo as flow
    from visionflows.cli.demo import show
    from visionflows.orchestration.ephemeral_server import server_if_none

    with server_if_none():
        show(folder, flow(folder))


@app.command(
    cls=command_of("visionflows.training.settings:TrainSettings"),
    epilog="Example: visionflows train PETS --name pets --labels uppercase --epochs 1",
)
@with_options_of(train_options)
def train(
    ctx: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A fastai name (PETS), an http(s):// archive, an archive, a folder, or digits."
        ),
    ],
    name: Annotated[
        str, typer.Option(help="What the model will be called.", autocompletion=complete_name)
    ],
    labels: Labels = "folder",
    sha256: Annotated[str, typer.Option(help="What the archive must be.")] = "",
    export_fastai: Annotated[
        bool, typer.Option("--export-fastai", help="Also write export.pkl for fastai.")
    ] = False,
    int8: Int8 = False,
    corrections: Corrections = None,
    corrections_in_validation: CorrectionsInValidation = False,
    store: Store = "store",
) -> None:
    """Fine-tune a classifier on a dataset and publish it as a model bundle."""
    prepare_prefect()
    when_stopped(GOES_ON)
    from flows.train import train as flow
    from visionflows.training.settings import TrainSettings

    where = flow(
        dataset,
        name,
        labels=labels,
        settings=settings_of(TrainSettings, ctx.params),
        valid_pct=ctx.params["valid_pct"],
        store=store,
        sha256=sha256,
        export_fastai=export_fastai,
        int8=int8,
        corrections=tuple(corrections or ()),
        corrections_in_validation=corrections_in_validation,
    )
    typer.echo(f"model   {where}\nreport  {where}/report.html")


@app.command(
    cls=command_of("visionflows.scoring.settings:ScoreSettings"),
    epilog="Example: visionflows score inbox --model pets --output scores/night",
)
def score(
    ctx: typer.Context,
    input: Annotated[str, typer.Argument(help="The folder of images.")],
    model: ModelName,
    output: Output = "",
    on: str | None = None,
    actor_cores: int | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    precision: str | None = None,
    device: str | None = None,
    shard_size: int | None = None,
    max_pixels: int | None = None,
    decode: str | None = None,
    top: int | None = None,
    exif: Annotated[bool, typer.Option("--exif")] = False,
    raw: Annotated[bool, typer.Option("--raw")] = False,
    min_precision: float | None = None,
    find_duplicates: Annotated[bool, typer.Option("--find-duplicates")] = False,
    reject_outliers: Annotated[bool, typer.Option("--reject-outliers")] = False,
    only_new: Annotated[bool, typer.Option("--only-new")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed")] = False,
    restart: Annotated[bool, typer.Option("--restart")] = False,
    replace: Annotated[bool, typer.Option("--replace")] = False,
    allow_empty: Annotated[bool, typer.Option("--allow-empty")] = False,
    max_error_rate: float | None = None,
    spreadsheet: Annotated[bool, typer.Option("--spreadsheet")] = False,
    wait: float | None = None,
    engine: str | None = None,
    compile: Annotated[bool, typer.Option("--compile")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    store: Store = "store",
) -> None:
    """Score every image in a folder into predictions.csv: one row for every file."""
    prepare_prefect()
    from visionflows.scoring.settings import ScoreSettings

    settings = settings_of(ScoreSettings, ctx.params)
    if dry_run:
        from visionflows.inference import open_engine
        from visionflows.scoring.local_run import LocalRun

        run = LocalRun(
            input, output or f"{store}/scores/<time>", open_engine(model, store, settings), settings
        )
        for name, value in run.preview().items():
            typer.echo(f"{name:10} {value:,}" if isinstance(value, int) else f"{name:10} {value}")
        return
    from flows.score import score as flow
    from visionflows.orchestration.flow_runs import default_output

    where = output or default_output(store)
    when_stopped(GOES_ON if output else f"with --output {where} the same command goes on from it")
    result = flow(input, model, output=where, store=store, settings=settings)
    for line in summary_lines(result):
        typer.echo(line)


def summary_lines(run: dict[str, Any]) -> list[str]:
    """What a person wants to know of a scoring run, a line each."""
    from visionflows.scoring.schema import RunResult

    result = RunResult.model_validate(run, strict=False)
    counts = result.counts
    rejected = f", {counts.rejected} rejected" if counts.rejected else ""
    lines = [f"{counts.found} files found: {counts.ok} ok{rejected}, {counts.failed} failed"]
    if not counts.found:
        lines = [f"{result.input}: no images there; the CSV has its header and no row"]
    lines += [f"  {count:>8}  {label}" for label, count in counts.by_label.items()]
    statuses = (item for item in counts.by_status.items() if item[0] != "ok")
    lines += [f"  {count:>8}  {status}" for status, count in statuses]
    flags = (one for one in counts.flags.items() if one[0] not in counts.by_status)
    lines += [f"  {count:>8}  rows with {flag}" for flag, count in flags]
    if again := result.find_duplicates:
        lines.append(f"  {again.seen_in_training:>8}  seen in training")
        lines.append(f"  {again.duplicates:>8}  duplicates of a file before")
    if result.mixed:
        lines.append(result.mixed)
    lines += [f"drift: {line}" for line in (result.drift.warnings if result.drift else ())]
    endings = counts.ignored_by_ending.items()
    lines += [f"  {count:>8}  {ending}: no picture" for ending, count in endings]
    names = (f"{result.folder}{name}" for name in ("report.html", "review.html", "run.json"))
    return [*lines, *(f"{result.output}/{name}" for name in (*result.files, *names))]


@app.command(
    cls=command_of("visionflows.inference.engine:EngineSettings"),
    epilog="Example: visionflows predict a.jpg b.jpg --model pets",
)
def predict(
    ctx: typer.Context,
    images: Annotated[list[str], typer.Argument(help="Image files, s3://bucket/key too.")],
    model: ModelName,
    engine: str | None = None,
    max_pixels: int | None = None,
    decode: str | None = None,
    raw: Annotated[bool, typer.Option("--raw")] = False,
    store: Store = "store",
) -> None:
    """Label, index and probabilities of a few images: the tutorial's learn.predict."""
    from visionflows.inference import EngineSettings, open_engine
    from visionflows.scoring.predict import predict as rows_of

    one = {"batch_size": 1, "workers": 1}
    opened = open_engine(model, store, settings_of(EngineSettings, ctx.params | one))
    failed = False
    for row in rows_of(images, opened):
        failed |= row.status != "ok"
        if row.probabilities is None:
            typer.echo(f"{row.name}: {row.status}: {row.error}")
            continue
        index = int(row.probabilities.argmax())
        answer = (
            opened.model.classes[index],
            index,
            [round(p, 4) for p in row.probabilities.tolist()],
        )
        odd = row.outlier_score is not None and row.outlier_score > 1
        line = f"{answer} outlier (oddness {row.outlier_score:.2f})" if odd else f"{answer}"
        typer.echo(f"{row.name}: {line}" if len(images) > 1 else line)
    raise typer.Exit(int(failed))


def commands() -> None:
    """Run the command that the words after `visionflows` name, or complete them for a shell."""
    if os.environ.get("VISIONFLOWS_S3_BLOCK"):
        import visionflows.orchestration  # noqa: F401 (which tells places what a block is)
    if asked():
        complete(app)
    else:
        app()


def main() -> None:
    """The program, for who has imported its commands already."""
    run(commands)


if __name__ == "__main__":
    main()
