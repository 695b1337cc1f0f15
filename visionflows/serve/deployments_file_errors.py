"""Errors of a prefect.yaml, each as one line; then `prefect deploy` runs on it, as a program.

Of most errors Prefect reports only that an exception occurred. Here each is one line: the file, the
line, the field, and what is wrong.
"""

import contextlib
import difflib
import inspect
import runpy
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from visionflows.serve.deployments_file import STEP, provision_step
from visionflows.serve.provision import Rule
from visionflows.serve.settings import UpError

_TEMPLATE = "{{"  # Prefect replaces {{ … }} by variables, blocks and results of steps
Template = Annotated[str, Field(pattern=r"\{\{.*\}\}")]
_LOAD_ERRORS = (ImportError, AttributeError, ValueError, OSError)
_SCHEDULE = ("cron", "interval", "rrule", "timezone")
Keys = tuple[int | str, ...]  # the keys and indexes that lead to a value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Schedule(_Part):
    cron: str | None = None
    interval: Any = None
    rrule: str | None = None
    timezone: str | None = None
    anchor_date: Any = None
    active: bool | Template | None = None
    parameters: dict[str, Any] = {}
    slug: str | None = None
    replaces: str | None = None
    day_or: bool | Template = True


class _Limit(_Part):
    limit: int | Template
    collision_strategy: str | None = None
    grace_period_seconds: int | Template | None = None


class _Pool(_Part):
    name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Any] = {}


class _Deployment(_Part):
    name: str
    entrypoint: str
    description: str | None = None
    version: str | None = None
    version_type: str | None = None
    tags: list[str] | str | None = None
    flow_name: str | None = None
    parameters: dict[str, Any] | None = None
    enforce_parameter_schema: bool | None = None
    schedule: _Schedule | None = None
    schedules: list[_Schedule] | None = None
    paused: bool | None = None
    concurrency_limit: int | _Limit | None = None
    work_pool: _Pool | None = None
    triggers: list[dict[str, Any]] | None = None
    sla: Any = None
    build: Any = None
    push: Any = None
    pull: Any = None


class _File(BaseModel):
    deployments: list[_Deployment]


class _Step(_Part):
    id: str | None = None
    requires: Any = None
    deployments: list[str]
    jobs: int = 1
    rules: list[Rule] | None = None


_FIELDS = {
    name
    for part in (_File, _Deployment, _Schedule, _Limit, _Pool, _Step, Rule)
    for name in part.model_fields
}


def check(file: Path) -> None:
    """Raise UpError for the first error in a file, with its line and field."""
    text = file.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    for keys, reason in _errors(content if isinstance(content, dict) else {}):
        line = _line(yaml.compose(text), keys)
        field = ".".join(map(str, keys))
        raise UpError(f"{file.absolute()}:{line}: {field}: {reason}; correct it")


def _errors(content: dict[str, Any]) -> Iterator[tuple[Keys, str]]:
    yield from _validate(_File, content, ())
    from prefect.exceptions import PrefectException
    from prefect.flows import load_flow_from_entrypoint

    names = set()
    for index, entry in enumerate(content["deployments"]):
        keys: Keys = ("deployments", index)
        try:
            flow: Any = load_flow_from_entrypoint(entry["entrypoint"])
        except (*_LOAD_ERRORS, PrefectException) as error:
            reason = str(error) or type(error).__name__
            yield (*keys, "entrypoint"), f"{entry['entrypoint']}: no flow is there ({reason})"
            return
        for number, schedule in enumerate(entry.get("schedules") or ()):
            yield from _check_schedule(schedule, (*keys, "schedules", number))
        names.add(f"{flow.name}/{entry['name']}")
        yield from _check_parameters(flow, entry.get("parameters") or {}, (*keys, "parameters"))
    step = provision_step(content)
    at = next((i for i, one in enumerate(content.get("build") or ()) if STEP in one), 0)
    if step:
        yield from _check_step(step, names, ("build", at, STEP))


def _check_schedule(schedule: dict[str, Any], keys: Keys) -> Iterator[tuple[Keys, str]]:
    from prefect.client.schemas.schedules import construct_schedule

    given = {key: schedule[key] for key in _SCHEDULE if schedule.get(key) is not None}
    if _TEMPLATE not in str(given):
        yield from _validate(construct_schedule, given, keys)


def _check_parameters(
    flow: Any, parameters: dict[str, Any], keys: Keys
) -> Iterator[tuple[Keys, str]]:
    """The parameters that a flow does not have, or does not accept; others are given at a run."""
    try:
        hints = typing.get_type_hints(flow.fn, include_extras=True)
    except NameError:  # a placeholder of a flow whose libraries are not installed here
        hints = {}
    known = inspect.signature(flow.fn).parameters
    for name, value in parameters.items():
        if name not in known:
            yield (*keys, name), f"{flow.name} has no such parameter{_similar(name, known)}"
        elif _TEMPLATE not in str(value):
            yield from _validate(hints.get(name, Any), value, (*keys, name))


def _check_step(step: dict[str, Any], names: set[str], keys: Keys) -> Iterator[tuple[Keys, str]]:
    yield from _validate(_Step, step, keys)
    named = [((*keys, "deployments", i), name) for i, name in enumerate(step["deployments"])]
    for index, rule in enumerate(step.get("rules") or ()):
        named.append(((*keys, "rules", index, "deployment"), rule["deployment"]))
    for where, name in named:
        if name not in names:
            yield where, f"{name}: the file has no such deployment{_similar(name, names)}"


def _validate(kind: Any, value: Any, keys: Keys) -> Iterator[tuple[Keys, str]]:
    try:
        if inspect.isfunction(kind):
            kind(**value)
        else:
            TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        # Of a union, the deepest error is about the type that was meant; a misspelt field is also
        # missing.
        first = max(
            error.errors(), key=lambda one: (len(one["loc"]), one["type"] == "extra_forbidden")
        )
        where = (*keys, *_within(value, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            fields = (*_FIELDS, *getattr(kind, "model_fields", ()))
            yield where, f"no such field{_similar(str(where[-1]), fields)}"
        elif first["type"] == "missing":
            yield (*where, first["loc"][-1]), "missing"
        else:
            shown = "" if isinstance(first["input"], dict) else f"{first['input']}: "
            yield where, f"{shown}{reason[:1].lower()}{reason[1:]}"


def _within(value: Any, keys: Keys) -> Iterator[int | str]:
    """The part of pydantic's keys that are in the value: they also name the types of a union."""
    for key in keys:
        is_item = isinstance(value, list) and isinstance(key, int)
        if is_item or (isinstance(value, dict) and key in value):
            yield key
            value = value[key]


def _similar(name: str, known: Any) -> str:
    found = difflib.get_close_matches(name, list(known), 1)
    return f" (is {found[0]} meant?)" if found else ""


def _line(node: Any, keys: Sequence[int | str]) -> int:
    """The line of a value, or of the innermost part of the file that holds it."""
    line: int = node.start_mark.line + 1
    for key in keys:
        children: dict[int | str, tuple[Any, Any]] = {}
        if isinstance(node, yaml.MappingNode):
            yaml.constructor.SafeConstructor().flatten_mapping(node)  # of merged ones (`<<`) too
            children = {name.value: (name, value) for name, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            children = {index: (value, value) for index, value in enumerate(node.value)}
        if key not in children:
            break
        start, node = children[key]
        line = start.start_mark.line + 1
    return line


def main() -> None:
    """Check the file of --prefect-file, then run Prefect with the arguments."""
    file = Path(sys.argv[sys.argv.index("--prefect-file") + 1])
    with contextlib.redirect_stdout(sys.stderr):
        try:
            check(file)
        except UpError as error:
            sys.exit(f"\n{error}")
    runpy.run_module("visionflows.cli.prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
