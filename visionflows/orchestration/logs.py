"""Logging: the steps' lines at INFO, and an expected failure as one line."""

import logging
import sys
import warnings

from visionflows.errors import VisionflowsError
from visionflows.escaping import printable
from visionflows.orchestration.flow_runs import in_run
from visionflows.orchestration.url_redaction import redact


def clean_line(record: logging.LogRecord) -> bool:
    """A filter that redacts the secrets of URLs in every line, and makes it printable."""
    record.msg, record.args = printable(redact(record.getMessage())), ()
    return True


def log_error_once(record: logging.LogRecord) -> bool:
    """A filter that logs a VisionflowsError as one line, once.

    Prefect logs an exception with its traceback, for the task and again for its flow.
    """
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, VisionflowsError):
        return True
    if error.logged:
        return False
    error.logged = True
    record.msg, record.args, record.exc_info, record.exc_text = str(error), (), None, None
    return True


class RunLogHandler(logging.Handler):
    """Sends the steps' lines to the run's log on the server; the console has them already."""

    def emit(self, record: logging.LogRecord) -> None:
        if not in_run():
            return
        for handler in logging.getLogger("prefect.extra").handlers:
            if not isinstance(handler, logging.StreamHandler):
                handler.handle(record)


def log_to_run() -> None:
    """Send the steps' lines to the run's log in the Prefect UI; called when a flow run starts."""
    logger = logging.getLogger("visionflows")
    logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs with their tokens
    if not any(isinstance(handler, RunLogHandler) for handler in logger.handlers):
        logger.addHandler(RunLogHandler())
        logger.handlers[-1].addFilter(clean_line)
    for name in ("flow_runs", "task_runs", "flow_engine", "task_engine"):
        engine = logging.getLogger(f"prefect.{name}")
        engine.addFilter(log_error_once)  # once, however often it is called
        engine.addFilter(clean_line)


def log_to_terminal(debug: bool = False) -> None:
    """Show the steps' lines on stderr; Prefect's own lines only for warnings and errors."""
    logger = logging.getLogger("visionflows")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.set_name("visionflows.terminal")
    handler.addFilter(clean_line)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    if not debug:
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
