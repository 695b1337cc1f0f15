"""Steps and flows: Prefect's where a server is named, plain calls where none is.

    @flow(name="score", flow_run_name=run_name("score {input} with {model}"))
    def score(input: str, model: str) -> dict[str, Any]:
        engine = load(model)                     # a task run in a flow run, else a plain call

    @step(name="load", task_run_name="load {model}")
    def load(model: str) -> Engine: ...

Which it is, each call decides anew: a step is a task run inside a flow run; a flow is a flow run
where a server is named (PREFECT_API_URL or a profile) or where it is called inside another one.
Prefect is imported by the first call that needs it.

No task is retried by Prefect: a download goes on by itself from the byte it had, and everything
else would fail again the same way. What travels between tasks lies in memory; there is no cached
result to look for.
"""

import functools
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from visionflows.errors import SettingsError
from visionflows.orchestration import server
from visionflows.orchestration.error_translation import plainly
from visionflows.orchestration.flow_runs import in_run, run_name
from visionflows.orchestration.heartbeat import unmarked, watched
from visionflows.orchestration.logs import log_to_run
from visionflows.orchestration.url_redaction import hidden, whole

if TYPE_CHECKING:
    from prefect import Flow as PrefectFlow
    from prefect import Task as PrefectTask

P = ParamSpec("P")
R = TypeVar("R")


@overload
def step(function: Callable[P, R], **options: Any) -> "Step[P, R]": ...
@overload
def step(**options: Any) -> Callable[[Callable[P, R]], "Step[P, R]"]: ...
def step(function: Callable[P, R] | None = None, **options: Any) -> Any:
    """Makes a function a step; `options` are those of Prefect's `task`."""
    return Step(function, options) if function else functools.partial(step, **options)


def flow(**options: Any) -> Callable[[Callable[P, R]], "Flow[P, R]"]:
    """Makes a function a flow; `options` are those of Prefect's `flow`."""
    return lambda function: Flow(function, options)


class Step(Generic[P, R]):
    """A function that is a task run inside a flow run, and itself everywhere else."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any]):
        functools.update_wrapper(self, function)
        self.function, self.options = plainly(function), options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return (self.task if in_run() else self.function)(*args, **kwargs)

    @functools.cached_property
    def task(self) -> "PrefectTask[P, R]":
        """The step as Prefect's task."""
        from prefect import task
        from prefect.cache_policies import NO_CACHE

        name = run_name(self.options["task_run_name"])
        options: Any = self.options | {"task_run_name": name, "cache_policy": NO_CACHE}
        made: PrefectTask[P, R] = task(self.function, **options)
        return made


class Flow(Generic[P, R]):
    """A function that is a flow run where a server is named or a flow runs, and itself elsewhere.

    A deployment loads it by its name (`flows.score.score`) and must find a Flow of Prefect's. So
    this is a proxy of one, as werkzeug's LocalProxy is: whatever a Flow has it has too, and
    where Prefect asks it is one. Raises SettingsError for arguments that cannot be used.
    """

    def __init__(self, function: Callable[P, R], options: dict[str, Any]):
        functools.update_wrapper(self, function)
        self.function, self.options = plainly(function), options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if not in_run():
            if not (server.is_named() or kwargs.keys() & {"return_state", "wait_for"}):
                return self._without_server(*args, **kwargs)
            server.check()
        run: Any = self.flow
        told = {name: hidden(value) for name, value in kwargs.items()}
        with watched():
            result: R = run(*map(hidden, args), **told)
        return result

    @functools.cached_property
    def flow(self) -> "PrefectFlow[P, R]":
        """The function as Prefect's flow."""
        from prefect import flow

        options: Any = self.options | {"version": version("visionflows")}
        made: PrefectFlow[P, R] = flow(self._in_run, **options)
        return made

    @functools.cached_property
    def _in_run(self) -> Callable[P, R]:
        """What a flow run runs: the function, its lines in the run's log, its arguments whole."""

        @functools.wraps(self.function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            log_to_run()
            function: Any = self.function
            given = {name: whole(value) for name, value in kwargs.items()}
            with unmarked():
                result: R = function(*map(whole, args), **given)
            return result

        return call

    def _without_server(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function with arguments that are what its annotations say, as Prefect does."""
        from pydantic import ValidationError, validate_call

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

    @property
    def __class__(self) -> type:
        return type(self.flow) if "prefect.flows" in sys.modules else type(self)

    @__class__.setter
    def __class__(self, kind: type) -> None:
        raise TypeError("a flow stays what it is")
