"""What the commands share: options, settings told in the command line's words, Prefect's manners.

from visionflows.cli.options import Store, command_of, settings_of
"""

import functools
import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperOption

from visionflows.cli.completion import complete_model

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from typer._click import Context, HelpFormatter  # typer names them nowhere else

Settings = TypeVar("Settings", bound="BaseModel")
Command = TypeVar("Command", bound=Callable[..., None])

Store = Annotated[
    str, typer.Option(envvar="VISIONFLOWS_STORE", help="Where runs keep what they make.")
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="pets, pets@production, pets@<version>, or a bundle's place.",
        autocompletion=complete_model,
    ),
]

Labels = Annotated[
    str,
    typer.Option(
        help="folder, uppercase, regex:PATTERN with one group, or csv:PLACE[#PATH,LABEL]."
    ),
]
Output = Annotated[
    str, typer.Option(help="Where the CSV goes [default: STORE/scores/<time>]", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="The same as JSON, for machines.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Also make the network in int8, for CPUs.")]
Corrections = Annotated[
    list[str] | None,
    typer.Option(help="What review.html saved, or an output it was added to; may be repeated."),
]
CorrectionsInValidation = Annotated[
    bool,
    typer.Option("--corrections-in-validation", help="Judge by corrected images too."),
]


def train_options(
    architecture: Annotated[str | None, typer.Option("--arch")] = None,
    image_size: int | None = None,
    resize: str | None = None,
    epochs: int | None = None,
    freeze_epochs: int | None = None,
    lr: str | None = None,
    batch_size: int | None = None,
    gpus: int | None = None,
    augment: bool | None = None,
    pretrained: str | None = None,
    patience: int | None = None,
    keep: str | None = None,
    precision: str | None = None,
    seed: int | None = None,
    valid_pct: Annotated[float, typer.Option(help="Share of the images to validate on.")] = 0.2,
    workers: int | None = None,
    max_pixels: int | None = None,
    decode: str | None = None,
) -> None:
    """The options of TrainSettings, and the split's share: what whatever trains has alike."""


def with_options_of(shared: Callable[..., None]) -> Callable[[Command], Command]:
    """Let a command have the options of another function as well, after its `labels`.

    Typer reads them off its signature; the command itself finds them in `ctx.params`.
    """

    def decorated(command: Command) -> Command:
        own, theirs = (inspect.signature(one).parameters for one in (command, shared))
        at = [*own].index("labels") + 1

        @functools.wraps(command)
        def called(**given: Any) -> None:
            command(**{name: given[name] for name in own})

        parameters = [*own.values()]
        parameters[at:at] = theirs.values()
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        return cast(Command, called)

    return decorated


def command_of(settings: str) -> type[TyperCommand]:
    """A command whose options of the same name say what the fields of these settings say.

    `settings` is "module:Class", imported when the help is asked for: `visionflows --help` is not
    kept waiting. Such an option has no help and no default of its own.
    """

    class SettingsCommand(TyperCommand):
        def format_help(self, ctx: "Context", formatter: "HelpFormatter") -> None:
            module, _, name = settings.partition(":")
            fields = getattr(importlib.import_module(module), name).model_fields
            for option in self.params:
                if isinstance(option, TyperOption) and option.name in fields:
                    _describe(option, fields[option.name])
            super().format_help(ctx, formatter)

    return SettingsCommand


def _describe(option: TyperOption, field: "FieldInfo") -> None:
    option.help = (field.description or "").replace("`", "")
    option.default = field.default
    if get_origin(field.annotation) is Literal:
        option.metavar = "|".join(get_args(field.annotation))


def settings_of(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """A settings object of the options that were given and are its fields.

    Raises SettingsError in the words of the command line.
    """
    from pydantic import ValidationError

    from visionflows.errors import SettingsError

    try:
        return kind(
            **{name: options[name] for name in kind.model_fields if options.get(name) is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        option = {"architecture": "arch"}.get(name, name).replace("_", "-")
        raise SettingsError(f"--{option} {first['input']}: {first['msg'].lower()}") from error


def prepare_prefect() -> None:
    """The manners of a command that may run a flow: our lines on the terminal, not Prefect's."""
    from visionflows.orchestration.heartbeat import FREQUENCY, HEARTBEAT
    from visionflows.orchestration.logs import log_to_terminal

    log_to_terminal(bool(os.environ.get("VISIONFLOWS_DEBUG")))
    os.environ.setdefault(FREQUENCY, str(HEARTBEAT))  # or it is set once Prefect is there
    quiet_prefect()


def quiet_prefect() -> None:
    """Let Prefect, where it is imported from now on, say nothing on the terminal."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # A run's log goes to the server as ever; the terminal shows our lines, not Prefect's.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
