"""What every task of ours has in common.

    @step(name="merge", description="Join the parts into predictions.csv.")

No task is retried by Prefect: a download goes on by itself from the byte it had, and everything
else would fail again the same way. What travels between tasks lies in memory; there is no cached
result to look for.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, overload

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

P = ParamSpec("P")
R = TypeVar("R")


@overload
def step(
    function: Callable[P, R], /, *, name: str, task_run_name: str, description: str
) -> Task[P, R]: ...


@overload
def step(
    *, name: str, task_run_name: str, description: str
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def step(
    function: Callable[P, R] | None = None, /, *, name: str, task_run_name: str, description: str
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """The task of a function, or the decorator that makes one of it."""
    make = task(
        name=name,
        task_run_name=task_run_name,
        description=description,
        cache_policy=NO_CACHE,
    )
    return make if function is None else make(function)
