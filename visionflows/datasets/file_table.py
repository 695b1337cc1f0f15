"""Turn a folder of images into a labelled file table, split into training and validation.

    from visionflows.datasets.file_table import build_table, table_notes
    table = build_table("store/datasets/pets-5c1a3d0f", "uppercase")
    print(*table_notes(table), sep="\\n")

One row an image. Whatever happens to an image it keeps its row; only rows whose status is `ok`
are usable: trained on, or validated on.
"""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from visionflows.datasets import split
from visionflows.datasets.content_sniffing import is_archive_name
from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.label_rules import LabelRule, label_rows, parse_label_rule
from visionflows.errors import SettingsError, TableError
from visionflows.hashing import sha256_of
from visionflows.images.decode_options import WHOLE, DecodeOptions
from visionflows.images.downscaled_cache import CacheWriter, DownscaledCache
from visionflows.images.formats import ImageFilter
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MAX_PIXELS, MemoryLimits
from visionflows.images.near_duplicates import signature
from visionflows.images.open import as_bad_image, open_decoded, read_image_file
from visionflows.storage import open_cache
from visionflows.storage.base import SkippedFiles
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.system import decoder_count

log = logging.getLogger("visionflows.table")

COLUMNS = [
    *("path", "label", "is_valid", "sha256", "width", "height", "signature", "status", "error"),
]
UNLABELLED = "unlabelled"  # beside the statuses of images.py: no label, so never opened
OUT_OF_BALANCE = 10  # told when the largest class is more than this many times the smallest


class _Look(NamedTuple):
    """What is in a file."""

    sha256: str = ""
    width: int = 0
    height: int = 0
    signature: str = ""
    status: str = "ok"
    error: str = ""


def build_table(
    folder: Path,
    labels: str,
    *,
    valid_pct: float = 0.2,
    seed: int = 42,
    max_pixels: int = MAX_PIXELS,
    decode_options: DecodeOptions = WHOLE,
    workers: int | None = None,
) -> pd.DataFrame:
    """The labelled file table of a folder: a row an image, columns as in COLUMNS, sorted by path.

    `path` is relative to the folder, as text (names.encode_name); `width` and `height` are pixels
    of the whole upright image, which is decoded once, as `decode_options` says, and of which a copy is
    kept where that makes it smaller (images.reduced). `signature` (images.alike) is as hex digits
    what it looks like: a split that is drawn keeps look-alikes on one side. `status` is `ok`,
    `unreadable`, `too_large`, `missing` or `unlabelled`, and `error` says why it is not ok; such a
    row is on no side: its is_valid is False.
    Raises SettingsError, PlaceError, and TableError where there is no training set in it.
    """
    rule = parse_label_rule(labels)
    if not 0 < valid_pct < 1:
        raise SettingsError(f"--valid-pct {valid_pct}: give a share between 0 and 1, such as 0.2")
    if workers is not None and workers < 1:
        raise SettingsError(f"{workers} workers: give one or more")
    images = LocalStorage(Path(folder))
    skipped, pictures = SkippedFiles(), ImageFilter(images.head)
    found = (entry.name for entry in images.walk(None, skipped))
    paths = [encode_name(name) for name in found if pictures(name)]
    if not paths:
        raise TableError(f"{folder}: {_no_image(images)}")
    rows, odd = label_rows(rule, images.root, paths)
    table = inspect_images(pd.DataFrame(rows), images, max_pixels, decode_options, workers)
    usable = table[table.status == "ok"]
    _check_classes(table, usable, rule)
    alike = split.group_near_duplicates(usable)
    if "is_valid" in table:
        valid = split.split_as_given(usable, rule)
    else:
        valid = split.split_randomly(usable, valid_pct, seed, alike)
    table["is_valid"] = (table.status == "ok") & table.sha256.isin(valid)
    log.info(
        "%d images of %d classes: %d to train on, %d to validate on; %d left out",
        *(len(usable), usable.label.nunique(), len(usable) - table.is_valid.sum()),
        *(table.is_valid.sum(), len(table) - len(usable)),
    )
    for line in pictures.lines():
        log.info("%s", line)
    log.info("classes, and how many of each to validate on: %s", _counts(table))
    table = table[COLUMNS]
    # What its rows cannot tell, or not at once.
    table.attrs["notes"] = [*skipped.lines(), *odd]
    table.attrs["near_duplicates"] = split.near_duplicate_notes(usable, valid, alike)
    for note in table_notes(table):
        log.info("note: %s", note)
    return table


def downscaled_cache(decode_options: DecodeOptions) -> DownscaledCache:
    """The copies of photos that an opening makes smaller, in the cache of this machine."""
    return DownscaledCache(open_cache().path("photos"), decode_options)


def table_notes(table: pd.DataFrame) -> list[str]:
    """What a person should know of a table that can be trained on, a line each.

    What was passed over, folders and classes that are odd, files left out, a class more than 10
    times as large as another, classes that one side of the split lacks, images that look alike,
    and the same bytes under different labels.
    """
    usable = table[table.status == "ok"]
    return [
        *(*table.attrs.get("notes", []), *table.attrs.get("near_duplicates", [])),
        *(*_left_out(table), *_imbalance(usable)),
        *(*_one_sided(usable), *_contradictions(usable)),
    ]


def fingerprint(table: pd.DataFrame) -> str:
    """The sha256 (hex) of what is trained and validated on: path, label, side and bytes."""
    usable = table[table.status == "ok"].sort_values("path")
    columns = (usable.path, usable.label, usable.is_valid.astype(bool), usable.sha256)
    rows = [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return sha256_of(json.dumps(rows).encode())


def _no_image(images: LocalStorage) -> str:
    """What to say of a folder without images: Kaggle packs archives into an archive."""
    names = [entry.name for entry in images.walk(is_archive_name)]
    if not names:
        return "no image found; name a folder that holds .jpg, .png or such"
    names.sort(key=lambda name: (not name.lower().startswith("train"), name))
    several = f"{len(names)} archives" if len(names) > 1 else "an archive"
    return (
        f"no image found, but holds {several}: {format_names([encode_name(name) for name in names])}; "
        f"unpack and name one, or name it as it is: {encode_name(str(images.path(names[0])))}"
    )


def inspect_images(
    table: pd.DataFrame,
    images: LocalStorage,
    max_pixels: int,
    decode_options: DecodeOptions,
    workers: int | None = None,
) -> pd.DataFrame:
    """The table (path, label and why it has none) with what is in each file, opened once."""
    memory = MemoryLimits(max_pixels)
    keeper = CacheWriter(downscaled_cache(decode_options))

    def decoded(data: bytes, sha256: str) -> _Look:
        with open_decoded(data, max_pixels, memory, decode_options) as picture:
            if picture.image.size != picture.size:
                keeper.keep(sha256, picture.image)
            return _Look(sha256, *picture.size, signature(picture.image).hex())

    def look(path: str, label: str, why: str) -> _Look:
        if not label:
            return _Look(status=UNLABELLED, error=why)
        sha256 = ""
        try:
            file = images.path(decode_name(path))
            with memory.file(_size(file, memory)):
                data = read_image_file(file, memory)
                sha256 = sha256_of(data)
                return decoded(data, sha256)
        except BadImage as bad:
            return _Look(sha256, status=bad.status, error=bad.reason)

    with ThreadPoolExecutor(workers or decoder_count()) as pool:  # Pillow decodes without the GIL
        looks = list(pool.map(look, table.path, table.label, table.why))
    return table.join(pd.DataFrame(looks))


def _size(file: Path, memory: MemoryLimits) -> int:
    """A file's bytes. Raises BadImage where it cannot be asked for, as read_file does."""
    try:
        return file.stat().st_size
    except OSError as error:
        raise as_bad_image(error, memory.encoded) from error


def _check_classes(table: pd.DataFrame, usable: pd.DataFrame, rule: LabelRule) -> None:
    if usable.empty:
        first = table[table.label != ""].iloc[0]
        raise TableError(
            f"none of {len(table)} images can be used, such as {format_name(first.path)}: {first.error}"
        )
    lost = sorted(set(table.label) - set(usable.label) - {""})
    if lost:
        raise TableError(
            f"no image of {format_names(lost)} can be used; mend them or take the class out"
        )
    if usable.label.nunique() == 1:
        raise TableError(
            f"--labels {rule}: gives all {len(usable)} images one label, "
            f"{format_name(usable.label.iloc[0])}; training needs two or more"
        )


def _left_out(table: pd.DataFrame) -> list[str]:
    bad = table[table.status != "ok"]
    why = bad.error.where(bad.status == UNLABELLED, "")  # a line for each reason of these
    return [
        f"left out as {status}: {len(rows)}, {format_names(rows.path.tolist(), rows.error.tolist())}"
        for (status, _), rows in bad.groupby(["status", why])
    ]


def _counts(table: pd.DataFrame) -> str:
    """Every class (of 200) with its images, and how many of them are to validate on."""
    sides = table[table.status == "ok"].groupby("label").is_valid.agg(["size", "sum"])
    counts = [f"{format_name(name)} {size} ({valid})" for name, size, valid in sides.itertuples()]
    return ", ".join(counts[:200]) + (f", … {len(counts) - 200} more" if counts[200:] else "")


def _imbalance(usable: pd.DataFrame) -> list[str]:
    counts = usable.label.value_counts()
    if counts.max() <= OUT_OF_BALANCE * counts.min():
        return []
    return [
        f"classes far out of balance: {counts.max()} images of {format_name(str(counts.idxmax()))}, "
        f"{counts.min()} of {format_name(str(counts.idxmin()))}"
    ]


def _one_sided(usable: pd.DataFrame) -> list[str]:
    sides = usable.groupby("label").is_valid
    lines = {
        "no image to train on, so never learned": sides.min(),
        "no image to validate on, so never judged": ~sides.max(),
    }
    return [
        f"{line}: {format_names(one_sided.index[one_sided].tolist())}"
        for line, one_sided in lines.items()
        if one_sided.any()
    ]


def _contradictions(usable: pd.DataFrame) -> list[str]:
    labels = usable.groupby("sha256").label.transform("nunique")
    several = usable[labels > 1].drop_duplicates(["sha256", "label"])
    if several.empty:
        return []
    groups = [
        " = ".join(
            f"{format_name(str(row.path))} ({format_name(str(row.label))})"
            for row in group.itertuples()
        )
        for _, group in several.groupby("sha256", sort=False)
    ]
    more = ", …" if len(groups) > 3 else ""
    return [f"same bytes under different labels: {len(groups)}, {', '.join(groups[:3])}{more}"]
