"""Notes on the quality of a file table: what is left out, its classes and its split."""

import logging

import pandas as pd

from visionflows.datasets import split
from visionflows.datasets.format_names import format_name, format_names
from visionflows.images.formats import format_counts
from visionflows.label_sets import by_class

log = logging.getLogger("visionflows.table")

# Statuses beside those of images.image_status; only test images are opened.
UNLABELLED, TEST, UNKNOWN_CLASS = "unlabelled", "test", "unknown_class"
MAX_IMBALANCE = 10  # largest class over smallest, above which a note says so
MAX_CLASSES_LOGGED = 200
BURST_SECONDS = 60  # at most, from one photo of a burst to the next


def table_notes(table: pd.DataFrame) -> list[str]:
    """Notes on the quality of a table, its classes and its split, a line each."""
    usable = table[table.status == "ok"]
    return [
        *(*table.attrs.get("notes", []), *table.attrs.get("near_duplicates", [])),
        *(*_left_out(table), *_imbalance(by_class(usable))),
        *(*_one_sided(by_class(usable)), *_contradictions(usable)),
    ]


def burst_notes(usable: pd.DataFrame) -> list[str]:
    """A note on bursts on both sides: photos of one `camera`, each `taken` soon after another."""
    photos = usable[usable.camera != ""].sort_values(["camera", "taken", "path"])
    starts = (photos.camera != photos.camera.shift()) | ~(photos.taken.diff() <= BURST_SECONDS)
    bursts = starts.cumsum()
    is_across = photos.is_valid.groupby(bursts).transform("nunique") > 1
    across = [burst for _, burst in photos[is_across].groupby(bursts)]
    if not across:
        return []
    count = f"{sum(map(len, across))} images in {len(across)} burst{'s' if across[1:] else ''}"
    examples = split.format_groups(
        [burst.groupby("is_valid").head(1) for burst in across[:4]], " ≈ "
    )
    return [
        "series of photos of one camera, at most a minute from one to the next, in training and in "
        f"validation: {count}, "
        f"{examples}; the error rate may be too low: keep each burst on one side, with --group or "
        "in the split that you give"
    ]


def log_table(table: pd.DataFrame, skipped: dict[str, int]) -> None:
    """Log the counts of a table, by class too, the kinds of other files, and the notes."""
    usable, tests = table[table.status == "ok"], int((table.status == TEST).sum())
    valid = usable.is_valid.sum()
    log.info(
        "%d images of %d classes: %d to train on, %d to validate on; %s%d left out",
        *(len(usable), by_class(usable).label.nunique(), len(usable) - valid, valid),
        *(f"{tests} to test on; " if tests else "", len(table) - len(usable) - tests),
    )
    if skipped:
        log.info("not images: %s", format_counts(skipped))
    sides = by_class(usable).groupby("label").is_valid.agg(["size", "sum"])
    counts = [f"{format_name(name)} {size} ({valid})" for name, size, valid in sides.itertuples()]
    if (more := len(counts) - MAX_CLASSES_LOGGED) > 0:
        counts[MAX_CLASSES_LOGGED:] = [f"… {more} more"]
    log.info("classes, and how many of each to validate on: %s", ", ".join(counts))
    for note in table_notes(table):
        log.info("note: %s", note)


def _left_out(table: pd.DataFrame) -> list[str]:
    bad = table[~table.status.isin(["ok", TEST])]
    reason = bad.error.where(bad.status == UNLABELLED, "")  # one line per reason of these
    return [
        f"left out as {status}: {len(rows)}, {format_names([*rows.path], [*rows.error])}"
        for (status, _), rows in bad.groupby(["status", reason])
    ]


def _imbalance(usable: pd.DataFrame) -> list[str]:
    counts = usable.label.value_counts()
    if counts.max() <= MAX_IMBALANCE * counts.min():
        return []
    most, fewest = (format_name(str(name)) for name in (counts.idxmax(), counts.idxmin()))
    images = f"{counts.max()} images of {most}, {counts.min()} of {fewest}"
    return [
        f"classes far out of balance: {images}; add photos of the rare classes, or train with "
        "--balance sqrt (or full) and --metric balanced_accuracy"
    ]


def _one_sided(usable: pd.DataFrame) -> list[str]:
    is_valid = usable.groupby("label").is_valid
    lines = {
        "no image to train on, so never learned": is_valid.min(),
        "no image to validate on, so never evaluated": ~is_valid.max(),
    }
    names = {line: classes.index[classes].tolist() for line, classes in lines.items()}
    return [f"{line}: {format_names(found)}" for line, found in names.items() if found]


def _contradictions(usable: pd.DataFrame) -> list[str]:
    labels = usable.groupby("sha256").label.transform("nunique")
    rows = usable[labels > 1].drop_duplicates(["sha256", "label"])
    groups = [group for _, group in rows.groupby("sha256", sort=False)]
    if not groups:
        return []
    examples = split.format_groups(groups, " = ")
    return [f"same bytes under different labels: {len(groups)}, {examples}"]
