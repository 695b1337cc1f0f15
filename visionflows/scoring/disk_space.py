"""Whether the disk of an output has room for the rows of a run."""

from visionflows.errors import StorageError
from visionflows.images.near_duplicates import BYTES
from visionflows.scoring.job import Job
from visionflows.storage.base import Storage

# Disk space of a row with a path of 100 characters. It is written to a part and predictions.csv.
BYTES_PER_ROW, BYTES_PER_PROBABILITY = 200, 9


def check_disk_space(output: Storage, job: Job, files: int) -> None:
    """Raise StorageError if the disk is too small for the rows of so many files."""
    free = output.free_bytes()
    if free is None:
        return
    row = BYTES_PER_ROW + BYTES_PER_PROBABILITY * len(job.classes)
    row += 2 * BYTES if job.settings.find_duplicates else 0
    # Shards that already have a part need no space for another one.
    parts = sum(name.endswith(".csv") for name in output.names("parts"))
    needed = row * (2 * files - min(parts * job.settings.shard_size, files)) + (20 << 20)
    if free < needed:
        raise StorageError(
            f"{output}: {free >> 20} MB free, the result may need {needed >> 20} MB; "
            "free some space or name another output"
        )
