"""Options that several commands share, and options made from the fields of a settings class."""

import functools
import os
import pkgutil
from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from typer._click import Context  # typer exports neither
    from typer._click import Parameter as Option

Settings = TypeVar("Settings", bound="BaseModel")

Store = Annotated[
    str,
    typer.Option(
        envvar="VISIONFLOWS_STORE", help="Folder or s3:// URI of models, datasets and scores."
    ),
]
ENGINE_SETTINGS = "visionflows.inference.engine:EngineSettings"
Labels = Annotated[
    str,
    typer.Option(
        help="folder (the parent folder), uppercase (a capital first letter, as in PETS), "
        "regex:PATTERN (its capture group, in the file name), csv:PATH_OR_URI[#path,label], "
        "coco:PATH_OR_URI, voc:FOLDER_OR_URI, cvat:PATH_OR_URI, or keywords[:BRANCH]."
    ),
]
ClassNames = Annotated[
    str,
    typer.Option(
        help="Class names for --labels uppercase instead of False,True, such as dog,cat: dog for "
        "names that begin with a small letter.",
        show_default=False,
    ),
]
LabelSep = Annotated[
    str,
    typer.Option(
        help="What parts the labels of an image, such as ; in a cell of the CSV.",
        show_default=False,
    ),
]
MultiLabel = Annotated[
    bool | None,
    typer.Option(
        "--multi-label/--no-multi-label",
        help="Whether the model gives an image any number of labels, or exactly one [default: as "
        "the source of the labels says]",
        show_default=False,
    ),
]
Missing = Annotated[
    Literal["error", "skip"],
    typer.Option(help="What to do about images that a label file lists and the dataset lacks."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def command_group(help: str) -> typer.Typer:
    """A group of commands. Plain help takes a third of the time of rich help."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)


def settings_command(settings: str, only: tuple[str, ...] = ()) -> type[TyperCommand]:
    """A command class that adds an option for each field of a settings class.

    `settings` is "module:Class", imported when the command itself is used, so that
    `visionflows --help` stays fast. `only` names the fields that become options; by default all.
    An option that the command declares itself replaces the one of its field. The command finds the
    settings in `ctx.obj`, and its own options in `ctx.params`.
    """

    class SettingsCommand(TyperCommand):
        def get_params(self, ctx: "Context") -> "list[Option]":
            own = {option.name for option in self.params}
            names = {*(only or pkgutil.resolve_name(settings).model_fields)} - own
            added = [option for option in _make_options(settings) if option.name in names]
            *declared, help_option = super().get_params(ctx)
            return [*declared, *added, help_option]

        def invoke(self, ctx: "Context") -> Any:
            ctx.obj = make_settings(pkgutil.resolve_name(settings), ctx.params)
            own = {option.name for option in self.params}
            ctx.params = {name: value for name, value in ctx.params.items() if name in own}
            return super().invoke(ctx)

    return SettingsCommand


@functools.cache
def _make_options(settings: str) -> "list[Option]":
    """Typer's options of a function whose parameters are the fields of a settings class."""

    def command() -> None:
        pass

    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=_option(name, field))
        for name, field in pkgutil.resolve_name(settings).model_fields.items()
    ]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return typer.main.get_command(app).params


def _option(name: str, field: "FieldInfo") -> Any:
    """The type and option of a field; an option that is not given is None."""
    types = {*(get_args(field.annotation) or [field.annotation])} - {type(None)}
    kind = next((one for one in (bool, int, float) if types == {one}), str)
    is_literal = get_origin(field.annotation) is Literal
    help_text = " ".join((field.description or "").replace("`", "").split())
    if isinstance(field.default, str | int | float) and kind is not bool and field.default != "":
        help_text += f" [default: {field.default}]"
    flag = f"--{_option_name(name)}"
    if kind is bool and field.default:
        flag += f"/--no-{_option_name(name)}"
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    option = typer.Option(
        flag,
        help=help_text,
        metavar="|".join(get_args(field.annotation)) if is_literal else None,
        envvar=str(extra["envvar"]) if "envvar" in extra else None,
    )
    return Annotated[kind | None, option]


def _option_name(name: str) -> str:
    return {"architecture": "arch"}.get(name, name).replace("_", "-")


def name_classes(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a command with its --class-names as part of its --labels.

    Raises SettingsError if the labels are not `uppercase`.
    """
    from visionflows.errors import SettingsError

    names, labels = params["class_names"], params["labels"]
    if names and labels != "uppercase":
        raise SettingsError(f"--class-names {names}: needs --labels uppercase, not {labels}")
    rest = {name: value for name, value in params.items() if name != "class_names"}
    return rest | {"labels": f"uppercase:{names}"} if names else rest


def make_settings(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """Settings with the options that were given; other options are ignored.

    Raises SettingsError that names the option as it is typed.
    """
    from pydantic import ValidationError

    from visionflows.errors import SettingsError

    given = {name: options[name] for name in kind.model_fields if options.get(name) is not None}
    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = _option_name(str(first["loc"][0]))
        reason = first["msg"].lower().removeprefix("value error, ")
        raise SettingsError(f"--{option} {first['input']}: {reason}") from error


def prepare_prefect() -> None:
    """Show the log on the terminal, and set up Prefect for a command that may run a flow."""
    from visionflows.orchestration.heartbeat import FREQUENCY, HEARTBEAT
    from visionflows.orchestration.logs import log_to_terminal

    log_to_terminal(bool(os.environ.get("VISIONFLOWS_DEBUG")))
    os.environ.setdefault(FREQUENCY, str(HEARTBEAT))  # read when Prefect is imported
    quiet_prefect()


def quiet_prefect() -> None:
    """Keep Prefect's own log lines off the terminal; a server still gets the log of a run."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
