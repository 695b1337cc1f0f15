"""The command line: a command runs the steps of its flow, on a server if one is configured."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from visionflows.cli.completion import VARIABLE, complete_for_shell, complete_model
from visionflows.cli.corrections import corrections_app
from visionflows.cli.evaluation import evaluate_app
from visionflows.cli.history import history_app
from visionflows.cli.models import models_app
from visionflows.cli.options import (
    ENGINE_SETTINGS,
    ClassNames,
    Labels,
    LabelSep,
    Missing,
    MultiLabel,
    Store,
    name_classes,
    prepare_prefect,
    quiet_prefect,
    settings_command,
)
from visionflows.cli.program import set_stop_hint

app = typer.Typer(
    name="visionflows",
    help="Fine-tune an image classifier on your photos, and score folders of images into CSV.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help takes a third of the time
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")
app.add_typer(corrections_app, name="corrections")
app.add_typer(evaluate_app)
app.add_typer(history_app)

RESUMES = "run the same command again to resume"
TRAIN_SETTINGS = "visionflows.training.settings:TrainSettings"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"visionflows {version('visionflows')}")
        raise typer.Exit


ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="pets (its latest version), pets@production, pets@VERSION, or a path or s3:// URI of "
        "a model artifact.",
        autocompletion=complete_model,
    ),
]
NewName = Annotated[str, typer.Option(help="Name of the model.", autocompletion=complete_model)]
Group = Annotated[
    str,
    typer.Option(
        help="Images to keep on one side of the split, such as those of a camera: folder, "
        "regex:PATTERN (its capture group, in the path), or column:NAME of the label CSV.",
        show_default=False,
    ),
]
ValidPct = Annotated[float, typer.Option(help="Share of the images to validate on.")]
Output = Annotated[
    str, typer.Option(help="Folder or s3:// URI of the results [default: STORE/scores/<time>]")
]
Int8 = Annotated[bool, typer.Option("--int8", help="Also export an int8 network, for CPUs.")]
Corrections = Annotated[
    list[str] | None,
    typer.Option(help="A corrections.csv, or a scoring output with corrections; repeatable."),
]
CorrectionsInValidation = Annotated[
    bool,
    typer.Option("--corrections-in-validation", help="Also validate on corrected images."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
]


@app.callback()
def _options(ctx: typer.Context, debug: Debug = False, version: Version = False) -> None:
    """Options before the command."""
    os.environ["VISIONFLOWS_DEBUG"] = "1" if debug else ""
    if ctx.invoked_subcommand != "up" and os.environ.get("VISIONFLOWS_S3_BLOCK"):
        quiet_prefect()  # any command may load the block


@app.command(epilog="Example: visionflows demo")
def demo(
    folder: Annotated[
        Path, typer.Option(help="Folder for store and scores; deleted first if it exists.")
    ] = Path("demo"),
) -> None:
    """Train on the embedded digits and score them: no download, no server, about 90 seconds."""
    prepare_prefect()
    from flows.demo import demo as demo_flow
    from visionflows.cli.results import print_demo

    print_demo(folder, demo_flow(folder))


@app.command(
    cls=settings_command(TRAIN_SETTINGS),
    epilog="Example: visionflows train PETS --name pets --labels uppercase --epochs 1",
)
def train(
    ctx: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A fastai name (PETS), an archive or folder (path, http(s):// or s3:// URI), "
            "or digits."
        ),
    ],
    name: NewName,
    labels: Labels = "folder",
    class_names: ClassNames = "",
    label_sep: LabelSep = "",
    multi_label: MultiLabel = None,
    missing: Missing = "error",
    group: Group = "",
    valid_pct: ValidPct = 0.2,
    sha256: Annotated[str, typer.Option(help="Expected SHA-256 of the archive.")] = "",
    export_fastai: Annotated[
        bool, typer.Option("--export-fastai", help="Also write export.pkl for fastai.")
    ] = False,
    int8: Int8 = False,
    corrections: Corrections = None,
    corrections_in_validation: CorrectionsInValidation = False,
    store: Store = "store",
) -> None:
    """Fine-tune a classifier on a dataset and publish it as a model artifact."""
    prepare_prefect()
    set_stop_hint(RESUMES)
    from flows.train import train as train_flow
    from visionflows.cli.terminal import print_summary

    model = train_flow(**_training_arguments(ctx))
    print_summary(f"model   {model}", f"report  {model}/report.html")


@app.command(
    cls=settings_command(TRAIN_SETTINGS),
    epilog="Example: visionflows retrain PETS --name pets --labels uppercase",
)
def retrain(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help="The current dataset, as for train.")],
    name: NewName,
    labels: Labels = "folder",
    class_names: ClassNames = "",
    label_sep: LabelSep = "",
    multi_label: MultiLabel = None,
    missing: Missing = "error",
    group: Group = "",
    valid_pct: ValidPct = 0.2,
    inbox: Annotated[
        str, typer.Option(help="Images to score afterwards with the production version.")
    ] = "",
    output: Output = "",
    int8: Int8 = False,
    corrections: Corrections = None,
    corrections_in_validation: CorrectionsInValidation = False,
    store: Store = "store",
) -> None:
    """Train, compare with production on unseen images, promote if better, score an inbox."""
    prepare_prefect()
    set_stop_hint("run the same command again; finished downloads are reused")
    from flows.retrain import retrain as retrain_flow
    from visionflows.cli.terminal import print_summary

    result = retrain_flow(**_training_arguments(ctx))
    kept = f"not promoted, production stays {result.get('production')}"
    outcome = "promoted" if result["promoted"] else kept
    print_summary(f"{result['model']}: {outcome}: {result['why']}")


def _training_arguments(ctx: typer.Context) -> dict[str, Any]:
    corrections = tuple(ctx.params["corrections"] or ())
    return name_classes(ctx.params) | {"corrections": corrections, "settings": ctx.obj}


@app.command(
    cls=settings_command("visionflows.scoring.settings:ScoreSettings"),
    epilog="Example: visionflows score inbox --model pets --output scores/night",
)
def score(
    ctx: typer.Context,
    input: Annotated[
        str,
        typer.Argument(
            help="Folder or s3:// URI of the images, or a .txt or .csv file that lists them."
        ),
    ],
    model: ModelName,
    output: Output = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what a run would do, and write nothing.")
    ] = False,
    store: Store = "store",
) -> None:
    """Score every image in a folder into predictions.csv, one row for each."""
    prepare_prefect()
    if dry_run:
        from visionflows.cli.results import print_preview

        print_preview(input, model, output or f"{store}/scores/<time>", store, ctx.obj)
        return
    from flows.score import score as score_flow
    from visionflows.cli.results import summary_lines
    from visionflows.cli.terminal import print_summary
    from visionflows.orchestration.flow_runs import default_output

    output_used = output or default_output(store)
    set_stop_hint(RESUMES if output else f"to resume, add --output {output_used}")
    result = score_flow(input, model, output=output_used, store=store, settings=ctx.obj)
    print_summary(*summary_lines(result))


@app.command(
    cls=settings_command(ENGINE_SETTINGS, ("engine", "max_pixels", "decode", "raw")),
    epilog="Example: visionflows predict a.jpg b.jpg --model pets",
)
def predict(
    ctx: typer.Context,
    images: Annotated[list[str], typer.Argument(help="Image files: paths or s3:// URIs.")],
    model: ModelName,
    store: Store = "store",
) -> None:
    """Print label, index and probabilities of a few images, as fastai's learn.predict does."""
    from visionflows.cli.results import prediction_line
    from visionflows.cli.terminal import print_lines
    from visionflows.inference import open_engine
    from visionflows.scoring.predict import predict as predict_rows

    settings = ctx.obj.model_copy(update={"batch_size": 1, "workers": 1})
    has_failed = False
    engine = open_engine(model, store, settings)
    for row in predict_rows(images, engine):
        if row.status != "ok":
            has_failed = True
            print_lines(f"{row.path}: {row.status}: {row.error}")
            continue
        print_lines(prediction_line(row, engine.model.info.multi_label))
    raise typer.Exit(int(has_failed))


@app.command(
    cls=settings_command("visionflows.serve.settings:UpSettings"),
    epilog="Example: visionflows up --port 4200",
)
def up(ctx: typer.Context) -> None:
    """Run a Prefect server with its UI, a worker and the deployments here, until Ctrl-C."""
    from visionflows.orchestration.logs import log_to_terminal
    from visionflows.serve import up as server

    log_to_terminal(bool(os.environ.get("VISIONFLOWS_DEBUG")))
    server.up(ctx.obj)


@app.command(epilog="Example: visionflows doctor s3://bucket/inbox")
def doctor(
    locations: Annotated[
        list[str] | None, typer.Argument(help="Folders or s3:// URIs to check.")
    ] = None,
    store: Store = "store",
) -> None:
    """Check versions, GPU and driver, storage and server; say what to do about each problem."""
    from visionflows.cli.terminal import print_lines
    from visionflows.serve.doctor import examine

    has_failed = False
    for finding in examine([store, *(locations or [])]):
        has_failed |= finding.status == "FAIL"
        advice = [f"      do: {finding.fix}"] if finding.fix else []
        print_lines(f"{finding.status:4}  {finding.subject}: {finding.message}", *advice)
    raise typer.Exit(int(has_failed))


def run_command() -> None:
    """Run the command that the arguments name, or answer a shell that completes one."""
    if os.environ.get("VISIONFLOWS_S3_BLOCK"):
        import visionflows.orchestration  # noqa: F401 (registers the reader of Prefect blocks)
    if VARIABLE in os.environ:
        complete_for_shell(app)
    else:
        app()
