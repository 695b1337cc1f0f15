"""Decorators for steps and flows, which run with or without a Prefect server.

A flow becomes a flow run if a server is configured or if another flow run calls it. Prefect
retries and caches no task: downloads resume by themselves, and other errors would repeat.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, get_type_hints

from pydantic import ValidationError, validate_call

from visionflows.errors import SettingsError
from visionflows.orchestration import server
from visionflows.orchestration.error_translation import translate_errors
from visionflows.orchestration.flow_runs import in_run, run_name
from visionflows.orchestration.heartbeat import monitored_runs, untagged_tasks
from visionflows.orchestration.logs import log_to_run
from visionflows.orchestration.notifications import report_error, report_failure
from visionflows.orchestration.url_redaction import hide, reveal

if TYPE_CHECKING:
    from prefect import Flow as PrefectFlow
    from prefect import Task as PrefectTask

P = ParamSpec("P")
R = TypeVar("R")
_NOTHING = contextlib.nullcontext()


def step(**options: Any) -> "Callable[[Callable[P, R]], Step[P, R]]":
    """Make a function a step; `options` are those of Prefect's `task`."""
    return lambda function: Step(function, **options)


def flow(reports_failure: bool = False, **options: Any) -> Callable[[Callable[P, R]], "Flow[P, R]"]:
    """Make a function a flow; `options` are those of Prefect's `flow`.

    With `reports_failure` a failed or crashed run is reported: see notifications.
    """
    hooks = {"on_failure": [report_failure], "on_crashed": [report_failure]}
    return lambda function: Flow(function, options | (hooks if reports_failure else {}))


def _described(function: Callable[..., Any]) -> str:
    """A docstring with the descriptions of parameters: the texts in their annotations.

    Prefect takes those of its run form from the docstring.
    """
    lines = [
        f"    {name}: {text}"
        for name, annotation in get_type_hints(function, include_extras=True).items()
        for text in getattr(annotation, "__metadata__", ())
        if isinstance(text, str)
    ]
    return "\n".join([inspect.getdoc(function) or "", "", "Args:", *lines])


class Step(Generic[P, R]):
    """A function that is a task run inside a flow run, and a plain call elsewhere.

    It has the name of its function, and its task runs have its name, unless the options give
    others.
    """

    def __init__(self, function: Callable[P, R], **options: Any):
        functools.update_wrapper(self, function)
        name = options.get("name", function.__name__)
        self.function = translate_errors(function)
        self.options = {"name": name, "task_run_name": name} | options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return (self.task if in_run() else self.function)(*args, **kwargs)

    @functools.cached_property
    def task(self) -> "PrefectTask[P, R]":
        """The step as a Prefect task."""
        from prefect import task
        from prefect.cache_policies import NO_CACHE

        name = run_name(self.options["task_run_name"])
        options: Any = self.options | {"task_run_name": name, "cache_policy": NO_CACHE}
        options["retries"] = 0  # whatever PREFECT_TASKS_DEFAULT_RETRIES says for others
        made: PrefectTask[P, R] = task(self.function, **options)
        return made


class Flow(Generic[P, R]):
    """A function that is a flow run if a server is configured, and a plain call elsewhere.

    A deployment loads it by its name (`flows.score.score`) and must find a Prefect Flow. So this is
    a proxy of one, as werkzeug's LocalProxy is: it has all attributes of a Flow, and isinstance
    says that it is one. Raises SettingsError for invalid arguments.
    """

    def __init__(self, function: Callable[P, R], options: dict[str, Any]):
        functools.update_wrapper(self, function)
        self.function, self.options = translate_errors(function), options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if not in_run():
            with report_error(self.__name__) if "on_failure" in self.options else _NOTHING:
                if not (server.is_configured() or kwargs.keys() & {"return_state", "wait_for"}):
                    return self.call_without_server(*args, **kwargs)
                server.check()
        run: Any = self.flow
        redacted = {name: hide(value) for name, value in kwargs.items()}
        with monitored_runs():
            result: R = run(*map(hide, args), **redacted)
        return result

    @functools.cached_property
    def flow(self) -> "PrefectFlow[P, R]":
        """The function as a Prefect flow, which logs to its run and reveals secrets."""
        from prefect import flow

        @functools.wraps(self.function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            log_to_run()
            function: Any = self.function
            revealed = {name: reveal(value) for name, value in kwargs.items()}
            with untagged_tasks():
                result: R = function(*map(reveal, args), **revealed)
            return result

        call.__doc__ = _described(self.function)
        name = run_name(self.options["flow_run_name"])
        options: Any = self.options | {"flow_run_name": name, "version": version("visionflows")}
        options["retries"] = 0
        made: PrefectFlow[P, R] = flow(call, **options)
        return made

    def call_without_server(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function with arguments validated against its annotations, as Prefect does."""
        try:
            return validate_call(self.function)(*args, **kwargs)
        except ValidationError as error:
            if error.title != self.__name__:
                raise
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise SettingsError(f"{name} {first['input']}: {first['msg'].lower()}") from error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.flow, name)

    @property  # type: ignore[misc]  # nothing sets it
    def __class__(self) -> type:
        return type(self.flow) if "prefect.flows" in sys.modules else type(self)
