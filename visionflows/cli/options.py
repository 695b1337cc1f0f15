"""Options that several commands share, and options made from the fields of a settings class."""

import importlib
import os
from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from typer.core import TyperCommand

from visionflows.cli.completion import complete_model, complete_name

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
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="pets, pets@production, pets@VERSION, or the path or URI of a model artifact.",
        autocompletion=complete_model,
    ),
]
NewName = Annotated[str, typer.Option(help="Name of the model.", autocompletion=complete_name)]
Labels = Annotated[
    str,
    typer.Option(
        help="folder, uppercase, regex:PATTERN with one group, or csv:PATH_OR_URI[#path,label]."
    ),
]
ValidPct = Annotated[float, typer.Option(help="Share of the images to validate on.")]
Output = Annotated[
    str,
    typer.Option(
        help="Folder or s3:// URI of the results [default: STORE/scores/<time>]",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Also export an int8 network, for CPUs.")]
Corrections = Annotated[
    list[str] | None,
    typer.Option(
        help="A corrections.csv, or an output that corrections were added to; may be repeated."
    ),
]
CorrectionsInValidation = Annotated[
    bool,
    typer.Option("--corrections-in-validation", help="Also validate on corrected images."),
]


def settings_command(settings: str, only: tuple[str, ...] = ()) -> type[TyperCommand]:
    """A command class that adds an option for each field of a settings class.

    `settings` is "module:Class", imported when the command itself is used, so that
    `visionflows --help` stays fast. `only` names the fields that become options; by default all.
    An option that the command declares itself replaces the one of its field. The command finds the
    settings in `ctx.obj`, and its own options in `ctx.params`.
    """

    class SettingsCommand(TyperCommand):
        _options: "list[Option]"  # what the command declares, and what its fields become

        @property
        def params(self) -> "list[Option]":
            if not self._options:
                own = {option.name for option in self._own}
                fields = {
                    name: field
                    for name, field in _load(settings).model_fields.items()
                    if name not in own and (not only or name in only)
                }
                self._options = [*self._own, *_make_options(fields)]
            return self._options

        @params.setter
        def params(self, own: "list[Option]") -> None:
            self._own, self._options = own, []

        def invoke(self, ctx: "Context") -> Any:
            ctx.obj = make_settings(_load(settings), ctx.params)
            own = {option.name for option in self._own}
            ctx.params = {name: value for name, value in ctx.params.items() if name in own}
            return super().invoke(ctx)

    return SettingsCommand


def _load(settings: str) -> "type[BaseModel]":
    module, _, name = settings.partition(":")
    loaded: type[BaseModel] = getattr(importlib.import_module(module), name)
    return loaded


def _make_options(fields: "Mapping[str, FieldInfo]") -> "Iterator[Option]":
    """Typer's options of a function whose parameters are these fields."""

    def command() -> None:
        pass

    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=_option(name, field))
        for name, field in fields.items()
    ]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    yield from typer.main.get_command(app).params


def _option(name: str, field: "FieldInfo") -> Any:
    """The type and option of a field; an option that is not given is None."""
    types = {*(get_args(field.annotation) or [field.annotation])} - {type(None)}
    kind = next((one for one in (bool, int, float) if types == {one}), str)
    metavar = "|".join(get_args(field.annotation)) if _is_literal(field) else None
    help_text = (field.description or "").replace("`", "")
    if isinstance(field.default, str | int | float) and kind is not bool and field.default != "":
        help_text += f" [default: {field.default}]"
    flag = f"--{_option_name(name)}"
    if kind is bool and field.default:
        flag += f"/--no-{_option_name(name)}"
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    envvar = str(extra["envvar"]) if "envvar" in extra else None
    option = typer.Option(flag, help=help_text, metavar=metavar, envvar=envvar)
    return Annotated[kind | None, option]


def _is_literal(field: "FieldInfo") -> bool:
    return get_origin(field.annotation) is Literal


def _option_name(name: str) -> str:
    return {"architecture": "arch"}.get(name, name).replace("_", "-")


def make_settings(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """Settings with the options that were given; other options are ignored.

    Raises SettingsError that names the option as it is typed.
    """
    from pydantic import ValidationError

    from visionflows.errors import SettingsError

    try:
        return kind(
            **{name: options[name] for name in kind.model_fields if options.get(name) is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = _option_name(str(first["loc"][0]))
        raise SettingsError(f"--{option} {first['input']}: {first['msg'].lower()}") from error


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
