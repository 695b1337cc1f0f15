"""How far a run is: a bar where a person is watching, and in a flow run a progress artifact.

A server that is away misses it for a while; the run goes on.

with Progress("scoring", total=1001) as progress:
    progress.add(16)
"""

import functools
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich import progress as rich_progress
from rich.console import Console

from visionflows.orchestration.best_effort import shown
from visionflows.orchestration.flow_runs import in_run

if TYPE_CHECKING:
    from prefect.settings import Settings

# Between two updates of the artifact, so that a server has as many of a run of hours as of minutes.
EVERY, STEP = 5.0, 0.01  # seconds, and a share of the whole
# A server that is away is asked twice, and then left alone for so long: the work does not wait.
RETRIES, QUIET = 1, 300.0  # seconds


class Progress:
    """Steps of a total, as far as it is known. Shares and steps may be mixed; neither goes back,
    unless the total grows."""

    def __init__(self, what: str, total: int):
        self.what, self.total, self.done = what, max(total, 1), 0.0
        self._in_run, self._away = in_run(), False
        self._artifact: UUID | None = None
        self._bar = rich_progress.Progress(
            *("{task.description}", rich_progress.BarColumn(), "{task.percentage:>3.0f} %"),
            *(_Rate(), rich_progress.TimeRemainingColumn()),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._line = self._bar.add_task(what, total=self.total)
        self._tell(0.0)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if kind is None:
            self._tell(1.0)

    def set_total(self, total: int) -> None:
        """There are so many in all, as is known by now."""
        self.total = max(total, 1)
        self._bar.update(self._line, total=self.total)

    def advance(self, steps: int) -> None:
        """So many more are done."""
        self.update((self.done + steps) / self.total)

    def update(self, share: float, line: str = "") -> None:
        """This share of the whole is done, 0 to 1."""
        self.done = max(self.done, share * self.total)
        self._bar.update(self._line, completed=self.done, description=line or self.what)
        moved = abs(share - self._told_share) >= STEP
        if moved and time.monotonic() - self._told >= EVERY:
            self._tell(share)

    def _tell(self, share: float) -> None:
        self._told, self._told_share = time.monotonic(), share
        if not self._in_run:
            return
        if not shown(f"the progress of {self.what}", lambda: self._show(share), not self._away):
            self._told, self._away = time.monotonic() + QUIET, True

    @functools.cached_property
    def _impatient(self) -> "Settings":
        """Prefect's settings as they are, but for few retries; a tenth of a second to make."""
        from prefect.settings import get_current_settings

        return get_current_settings().copy_with_update({"client.max_retries": RETRIES})

    def _show(self, share: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact
        from prefect.context import SettingsContext, get_settings_context

        percent = round(100 * min(share, 1.0), 1)
        with SettingsContext(profile=get_settings_context().profile, settings=self._impatient):
            if self._artifact:
                update_progress_artifact(self._artifact, progress=percent)
                return
            made: Any = create_progress_artifact(percent, description=self.what)
            self._artifact = UUID(str(made))  # no coroutine: not in one


class _Rate(rich_progress.ProgressColumn):
    """Steps a second, where the steps are many."""

    def render(self, task: rich_progress.Task) -> str:
        speed = task.finished_speed or task.speed
        return f"{speed:.0f}/s" if speed and task.total and task.total > 1 else ""
