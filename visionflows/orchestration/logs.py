"""How the log of a run reads: the steps' own lines at INFO, and a failure as one line.

log_to_run()                                         # when a flow run starts
log_to_terminal()                                    # on the command line
"""

import logging
import sys
import warnings

from visionflows.errors import VisionflowsError
from visionflows.orchestration.flow_runs import in_run
from visionflows.orchestration.url_redaction import public

_PREFECT_ENGINES = (
    *("prefect.flow_runs", "prefect.task_runs"),
    *("prefect.flow_engine", "prefect.task_engine"),
)


class Public(logging.Filter):
    """Cuts from every line what is secret in a URL."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = public(record.getMessage()), ()
        return True


class OneLine(logging.Filter):
    """Prefect logs an exception with its traceback, once a task and once more for its flow.

    An error of ours is one line that says what to do, and is said once. What nobody expected
    keeps its traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, VisionflowsError):
            return True
        if error.logged:
            return False
        error.logged = True
        record.msg, record.args, record.exc_info, record.exc_text = str(error), (), None, None
        return True


class ToRun(logging.Handler):
    """Hands the steps' lines to the run's log in the server, while there is a run.

    What Prefect shows on its console they reach by themselves, as any library's lines.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if not in_run():
            return
        for handler in logging.getLogger("prefect.extra").handlers:
            if not isinstance(handler, logging.StreamHandler):
                handler.handle(record)


def log_to_run() -> None:
    """Send the steps' lines to the run's log in the Prefect UI; called when a flow run starts."""
    ours = logging.getLogger("visionflows")
    ours.setLevel(min(ours.level or logging.INFO, logging.INFO))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells whole URLs, with their tokens
    if not any(isinstance(handler, ToRun) for handler in ours.handlers):
        ours.addHandler(ToRun())
        ours.handlers[-1].addFilter(Public())
    for name in _PREFECT_ENGINES:
        logger = logging.getLogger(name)
        if not any(isinstance(filter_, OneLine) for filter_ in logger.filters):
            logger.addFilter(OneLine())
            logger.addFilter(Public())


def log_to_terminal(debug: bool = False) -> None:
    """Show the steps' lines on stderr as they are; Prefect's own only where something is wrong."""
    ours = logging.getLogger("visionflows")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.set_name("visionflows.terminal")
    handler.addFilter(Public())
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    ours.propagate = False
    if not debug:  # what a library has deprecated is no news to who sorts photos
        for kind in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", kind)
