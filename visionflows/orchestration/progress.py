"""Progress of a run: a bar on a terminal or in a notebook, in a flow run a progress artifact."""

import functools
import logging
import sys
import time
from typing import Any
from uuid import UUID

from rich import progress as rich_progress
from rich.console import Console

from visionflows.orchestration.flow_runs import in_run, update_ui
from visionflows.progress_bar import in_notebook, notebook_bar

log = logging.getLogger("visionflows.progress")

# Between two updates of the artifact, so that a long run sends no more of them than a short one.
INTERVAL, STEP = 5.0, 0.01  # seconds, and a fraction of the total
# After a failed update the server is left alone for a while, so that the work does not wait.
RETRIES, PAUSE = 1, 300.0  # retries of an update, and seconds
LOG_INTERVAL = 60.0  # seconds between two log lines where there is no terminal


class Progress:
    """Steps done of a total. The fraction never decreases, unless the total grows."""

    def __init__(self, name: str, total: int):
        self.name, self.total, self.done = name, max(total, 1), 0.0
        self._in_run, self._has_failed = in_run(), False
        self._artifact: UUID | None = None
        self._began_at = self._logged_at = time.monotonic()
        self._first = -1.0  # the fraction of the first update
        self._bar = rich_progress.Progress(
            *("{task.description}", rich_progress.BarColumn(), "{task.percentage:>3.0f} %"),
            *(_Rate(), rich_progress.TimeRemainingColumn()),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._line = self._bar.add_task(name, total=self.total)
        self._notebook_bar = notebook_bar(name) if in_notebook() else None
        self._send(0.0)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._bar.stop()
        if error is None:
            self._send(1.0)

    def set_total(self, total: int) -> None:
        """Change the total, which grows while files are still being listed."""
        self.total = max(total, 1)
        self._bar.update(self._line, total=self.total)

    def advance(self, steps: int) -> None:
        """Count steps as done."""
        self.update((self.done + steps) / self.total)

    def update(self, fraction: float, description: str = "") -> None:
        """Set the fraction that is done, 0 to 1."""
        self.done = max(self.done, fraction * self.total)
        self._first = fraction if self._first < 0 else self._first
        self._bar.update(self._line, completed=self.done, description=description or self.name)
        if self._notebook_bar:
            self._notebook_bar(self.done, self.total)
        elif time.monotonic() - self._logged_at >= LOG_INTERVAL and not sys.stderr.isatty():
            self._log(fraction, description)
        has_moved = abs(fraction - self._sent_fraction) >= STEP
        if has_moved and time.monotonic() - self._sent_at >= INTERVAL:
            self._send(fraction)

    def _log(self, fraction: float, description: str) -> None:
        """Log a line with the time left, which assumes that the rest is as fast."""
        self._logged_at = time.monotonic()
        done = max(fraction - self._first, 1e-3)  # by this run, which may resume an earlier one
        left = (self._logged_at - self._began_at) * (1 - fraction) / done
        name = f"{self.name}, {description}" if description else self.name
        log.info("%s: %.0f %%, about %s left", name, 100 * fraction, _minutes(left))

    def _send(self, fraction: float) -> None:
        self._sent_at, self._sent_fraction = time.monotonic(), fraction
        if not self._in_run:
            return
        warn = not self._has_failed
        if not update_ui(f"the progress of {self.name}", lambda: self._upsert(fraction), warn):
            self._sent_at, self._has_failed = time.monotonic() + PAUSE, True

    @functools.cached_property
    def _settings(self) -> Any:
        """Prefect's settings with few retries; they take a tenth of a second to make."""
        from prefect.settings import get_current_settings

        return get_current_settings().copy_with_update({"client.max_retries": RETRIES})

    def _upsert(self, fraction: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact
        from prefect.context import SettingsContext, get_settings_context

        percent = round(100 * min(fraction, 1.0), 1)
        with SettingsContext(profile=get_settings_context().profile, settings=self._settings):
            if self._artifact:
                update_progress_artifact(self._artifact, progress=percent)
                return
            made: Any = create_progress_artifact(percent, description=self.name)
            self._artifact = UUID(str(made))  # no coroutine outside an event loop


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class _Rate(rich_progress.ProgressColumn):
    """Steps a second, if there is more than one step."""

    def render(self, task: rich_progress.Task) -> str:
        speed = task.finished_speed or task.speed
        return f"{speed:.0f}/s" if speed and task.total and task.total > 1 else ""
