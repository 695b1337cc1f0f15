"""The errors visionflows raises on purpose.

    VisionflowsError          one line: the thing, what is wrong with it, what to do
    ├── SettingsError         a value that cannot be used; found before any work (exit status 2)
    ├── PlaceError            a folder, file or bucket that is missing, full or closed to us
    │   └── DeniedError       … as this user or these credentials may not do this
    ├── ServerError           a Prefect server that does not answer, or does not let us in
    ├── FetchError            a download that cannot be had
    │   └── ChecksumError     … or is not the file that was asked for
    ├── ArchiveError          an archive that is broken, hostile or too large to unpack
    ├── TableError            images and labels that cannot make a training set
    ├── TrainError            a training that cannot start or go on
    ├── ModelError            a model bundle that is missing, cut or changed
    └── RunError              a scoring run that cannot be trusted to be whole
        ├── LockedError       … because another run is writing the same place
        ├── OtherRunError     … because the place holds the parts of a different job
        └── TooManyBadError   … because more files failed than --max-error-rate allows

A bad image is none of these: it is a row, and `images.BadImage` carries its status and
reason from the decoder to that row and no further.
"""

MOST = 200  # characters of a line: what is wrong in a file may be of any length


class VisionflowsError(Exception):
    """What went wrong, in one line that a person can act on."""

    exit_status = 1
    logged = False  # set once the error is in a run's log


class SettingsError(VisionflowsError):
    """A setting that cannot be used, found before any work."""

    exit_status = 2


class StorageError(VisionflowsError):
    """A place that is missing, full, or may not be read or written."""


class DeniedError(StorageError):
    """A place in which this user or these credentials may not do this."""


class ServerError(VisionflowsError):
    """A Prefect server that does not answer, or that does not let us in."""


class FetchError(VisionflowsError):
    """A dataset that could not be downloaded."""


class ChecksumError(FetchError):
    """A download whose sha256 is not the one that was given."""


class ArchiveError(VisionflowsError):
    """An archive that cannot be unpacked, or must not be."""


class TableError(VisionflowsError):
    """Images and labels that cannot make a training set."""


class TrainError(VisionflowsError):
    """A training that cannot start, or cannot go on."""


class ModelError(VisionflowsError):
    """A model that is missing, incomplete, or not what it was when it was published."""


class RunError(VisionflowsError):
    """A scoring run whose result cannot be trusted."""


class LockedError(RunError):
    """Another run is writing the same output place."""


class OtherRunError(RunError):
    """The output place holds parts of a different job."""


class TooManyBadError(RunError):
    """More files failed than the run allows; its CSV is whole all the same."""


def one_line(text: str) -> str:
    """A text of any kind as one line that a terminal can be given."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= MOST else f"{shown[:MOST]}…"
