"""The errors visionflows raises on purpose.

A bad image is a row, not an error: `images.BadImage` carries its status and reason to that row.
"""

from visionflows.escaping import printable

MAX_LINE = 200  # characters


class VisionflowsError(Exception):
    """What went wrong, in one printable line: the thing, what is wrong, what to do."""

    exit_status = 1
    logged = False  # whether it was logged already

    def __init__(self, line: str = ""):
        super().__init__(printable(line))


class SettingsError(VisionflowsError):
    """A setting that cannot be used, found before any work (exit status 2)."""

    exit_status = 2


class StorageError(VisionflowsError):
    """A folder, file or bucket that is missing, full or not accessible."""


class DeniedError(StorageError):
    """A storage location for which this user or these credentials lack a permission."""


class ServerError(VisionflowsError):
    """A Prefect server that does not answer, or denies access."""


class FetchError(VisionflowsError):
    """A dataset that cannot be downloaded."""


class ChecksumError(FetchError):
    """A download whose SHA-256 is not the one that was given."""


class ArchiveError(VisionflowsError):
    """An archive that is damaged, hostile or too large to unpack."""


class TableError(VisionflowsError):
    """Images and labels that cannot make a training set."""


class TrainError(VisionflowsError):
    """A training that cannot start or continue."""


class ModelError(VisionflowsError):
    """A model that is missing, incomplete, or changed since it was published."""


class RunError(VisionflowsError):
    """A scoring run whose result cannot be trusted."""


class LockedError(RunError):
    """Another run is writing to the same output."""


class OtherRunError(RunError):
    """The output holds parts of a different job."""


class TooManyBadError(RunError):
    """More files failed than --max-error-rate allows; the CSV is complete nevertheless."""


def one_line(text: str) -> str:
    """A text as one printable line of at most MAX_LINE characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…"
