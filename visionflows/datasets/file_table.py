"""Turn a folder of images into a labelled file table, split into training and validation."""

import contextlib
import json
import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from visionflows.datasets import split
from visionflows.datasets.content_sniffing import is_archive_name
from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.group_rules import GroupRule, parse_group_rule
from visionflows.datasets.group_split import groups_on_both_sides, split_by_group
from visionflows.datasets.label_rows import label_rows
from visionflows.datasets.label_rules import LabelRule, parse_label_rule
from visionflows.datasets.table_notes import (
    TEST,
    UNKNOWN_CLASS,
    UNLABELLED,
    burst_notes,
    log_table,
)
from visionflows.errors import SettingsError, TableError
from visionflows.hashing import sha256_of
from visionflows.images.decode_options import WHOLE, DecodeOptions
from visionflows.images.downscaled_cache import CacheWriter, DownscaledCache
from visionflows.images.formats import ImageFilter
from visionflows.images.image_status import BadImage
from visionflows.images.memory_limits import MAX_PIXELS, MemoryLimits
from visionflows.images.near_duplicates import signature
from visionflows.images.open import open_decoded, read_image_file
from visionflows.label_sets import by_class, class_names, is_multi_label
from visionflows.storage import open_cache, own_locations
from visionflows.storage.base import SkippedFiles
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.storage.prefetch import prefetch
from visionflows.system import decoder_count

COLUMNS = [
    *("path", "label", "group", "is_valid", "sha256", "width", "height", "signature"),
    *("status", "error", "is_test"),
]
VALID_PCT = 0.2  # the share to validate on, by default


class _ImageInfo(NamedTuple):
    """The columns that come from a file's content."""

    sha256: str = ""
    width: int = 0
    height: int = 0
    signature: str = ""
    status: str = "ok"
    error: str = ""
    camera: str = ""
    taken: float = math.nan  # seconds


def build_table(
    folder: str | Path,
    labels: str | LabelRule,
    *,
    group: str = "",
    valid_pct: float = VALID_PCT,
    seed: int = 42,
    max_pixels: int = MAX_PIXELS,
    decode_options: DecodeOptions = WHOLE,
    store: str | Path = "",
) -> pd.DataFrame:
    """The labelled file table of a folder: a row per image, columns COLUMNS, sorted by path.

    A `store` in the folder is no data, nor is the cache.

    `path` is relative to the folder, as encoded by storage.name_encoding; `group` is empty for an
    image on its own; `width` and `height` are pixels of the upright image; `signature` is the
    perceptual hash of images.near_duplicates as hex digits. `status` is `ok`, `unreadable`,
    `too_large`, `missing` or `unlabelled`; if it is not ok, `error` says why and is_valid is False.
    Labelled images of the test part (is_test) are never `ok` but `test`, or `unknown_class` if no
    other image has their label. `attrs["multi_label"]` says whether `label` is a text of several
    labels (visionflows.label_sets), perhaps none. Large images leave a downscaled copy in the
    cache. Raises SettingsError, StorageError, and TableError if there is no training set in the
    folder.
    """
    rule = parse_label_rule(labels) if isinstance(labels, str) else labels
    group_rule = parse_group_rule(group, rule)
    if not 0 < valid_pct < 1:
        raise SettingsError(f"--valid-pct {valid_pct}: give a share between 0 and 1, such as 0.2")
    images = LocalStorage(Path(folder))
    skipped, is_image = SkippedFiles(own=own_locations(store)), ImageFilter(images.heads)
    paths = [encode_name(entry.name) for entry in is_image(images.walk(None, skipped))]
    if not paths:
        raise TableError(f"{folder}: {_no_image(images)}")
    rows, notes, is_multi = label_rows(rule, images.root, paths, group_rule.column)
    notes += group_rule.apply(rows)
    frame = pd.DataFrame(rows)
    frame.attrs["multi_label"] = is_multi
    table = _inspect_rows(frame, images, max_pixels, decode_options)
    table.attrs = {
        "multi_label": is_multi,
        "label_options": rule.options,
        "group": str(group_rule),
        "split_given_by": next(filter(None, (row.get("given_by") for row in rows)), ""),
        "notes": [*skipped.lines(), *notes],
    }
    _check_classes(table, rule)
    table = _split(table, rule, group_rule, valid_pct, seed)[COLUMNS]
    log_table(table, is_image.by_extension())
    return table


def _split(
    table: pd.DataFrame, rule: LabelRule, group_rule: GroupRule, valid_pct: float, seed: int
) -> pd.DataFrame:
    """The table with its split: the given one, else one of whole groups or of single images."""
    usable, notes = table[table.status == "ok"], table.attrs["notes"]
    duplicates = split.group_contents(usable, split.near_duplicate_ids(usable))
    if "is_valid" in table:
        valid = split.split_as_given(usable, rule)
        _check_trained(usable, valid, rule)
        if valid_pct != VALID_PCT:
            notes.append(f"--valid-pct {valid_pct}: without effect, as the split is given")
        notes += groups_on_both_sides(usable, valid, group_rule)
    elif group_rule.kind or is_multi_label(table):
        valid = split_by_group(usable, valid_pct, seed, group_rule, rule)
    else:
        valid = split.split_randomly(usable, valid_pct, seed, duplicates)
    usable = usable.assign(is_valid=usable.sha256.isin(valid))
    notes += burst_notes(usable)
    table.attrs["near_duplicates"] = split.near_duplicate_notes(usable, valid, duplicates)
    return table.assign(is_valid=(table.status == "ok") & table.sha256.isin(valid))


def _check_trained(usable: pd.DataFrame, valid: set[str], rule: LabelRule) -> None:
    """Raise TableError if a given split leaves a class of several no image to train on."""
    trained = by_class(usable[~usable.sha256.isin(valid)]).label
    never = sorted({*by_class(usable).label} - {*trained})
    if never and is_multi_label(usable):
        raise TableError(
            f"--labels {rule}: its split leaves no image of {format_names(never)} to train on; "
            "move some, or take the class out"
        )


def downscaled_cache(decode_options: DecodeOptions) -> DownscaledCache:
    """The cache of images that these options downscale, on this machine."""
    return DownscaledCache(open_cache().path("photos"), decode_options)


def fingerprint(table: pd.DataFrame) -> str:
    """The sha256 (hex) of what is trained and validated on: path, label, side, content, group."""
    usable = table[table.status == "ok"].sort_values("path").astype({"is_valid": bool})
    columns = ["path", "label", "is_valid", "sha256"]
    columns += ["group"] if (usable.group != "").any() else []
    rows = usable[columns].to_numpy(dtype=object).tolist()
    rows += [["multi_label"]] if is_multi_label(table) else []
    return sha256_of(json.dumps(rows).encode())


def _inspect_rows(
    rows: pd.DataFrame, images: LocalStorage, max_pixels: int, decode_options: DecodeOptions
) -> pd.DataFrame:
    """The table of labelled rows; test images of unknown classes are not opened."""
    names = rows.label.map(lambda label: class_names(label, is_multi_label(rows)))
    known = {name for each in names[~rows.is_test] for name in each}
    unknown = rows.is_test & ~names.map(known.issuperset)
    why = "only test images are of its class"
    opened = rows.assign(why=rows.why.mask(unknown, why))
    table = inspect_images(opened, images, max_pixels, decode_options)
    table.loc[unknown, "status"] = UNKNOWN_CLASS
    is_test = table.is_test & (table.status == "ok")
    table.loc[is_test, "status"], table.loc[is_test, "error"] = TEST, table.test_why
    return table


def inspect_images(
    table: pd.DataFrame,
    images: LocalStorage,
    max_pixels: int,
    decode_options: DecodeOptions,
    workers: int | None = None,
) -> pd.DataFrame:
    """The table (path, why it has no label), with the columns of each file, read once."""
    memory = MemoryLimits(max_pixels)
    cache = CacheWriter(downscaled_cache(decode_options))

    def inspect(row: tuple[str, str]) -> _ImageInfo:
        path, why = row
        if why:
            return _ImageInfo(status=UNLABELLED, error=why)
        return _inspect(images.path(decode_name(path)), memory, cache)

    rows = zip(table.path, table.why, strict=True)
    count = workers or decoder_count()  # Pillow decodes without the GIL
    return table.join(pd.DataFrame(prefetch(inspect, rows, count, 4 * count)))


def _inspect(file: Path, memory: MemoryLimits, cache: CacheWriter) -> _ImageInfo:
    """The columns of a file; a large image leaves a downscaled copy."""
    sha256, size = "", 0
    with contextlib.suppress(OSError):  # reading it fails in the same way
        size = file.stat().st_size
    try:
        with memory.files.reserve(size):
            data = read_image_file(file, memory.encoded)
            sha256 = sha256_of(data)
            with open_decoded(data, memory, cache.cache.decode_options) as decoded:
                if decoded.image.size != decoded.size:
                    cache.write(sha256, decoded.image)
                digits, photo = signature(decoded.image).hex(), decoded.photo()
                info = _ImageInfo(sha256, *decoded.size, digits)
                return info._replace(camera=photo.body, taken=photo.second)
    except BadImage as bad:
        return _ImageInfo(sha256, status=bad.status, error=bad.reason)


def _no_image(images: LocalStorage) -> str:
    """The error for a folder without images: Kaggle packs archives into an archive."""
    names = [entry.name for entry in images.walk(is_archive_name)]
    if not names:
        return "no image found; name a folder that holds .jpg, .png or such"
    names.sort(key=lambda name: (not name.lower().startswith("train"), name))
    count = f"{len(names)} archives" if len(names) > 1 else "an archive"
    return (
        f"no image found, but holds {count}: {format_names([encode_name(name) for name in names])};"
        f" unpack and name one, or name it as it is: {encode_name(str(images.path(names[0])))}"
    )


def _check_classes(table: pd.DataFrame, rule: LabelRule) -> None:
    """Raise TableError if the images that are not for tests cannot make two classes."""
    table = by_class(table)
    usable = table[table.status == "ok"]
    tests, table = table[table.is_test], table[~table.is_test]
    bad = table[(table.label != "") & ~table.label.isin(usable.label)]
    if usable.empty:
        row = bad.iloc[0]
        raise TableError(
            f"none of {len(table)} images can be used, such as {format_name(row.path)}: {row.error}"
        )
    if not bad.empty:
        raise TableError(
            f"no image of {format_names(sorted({*bad.label}))} can be used, such as "
            f"{format_name(bad.path.iloc[0])}: {bad.error.iloc[0]}; mend them or take the class out"
        )
    if usable.label.nunique() == 1:
        lost = sorted({*tests.label} - {*usable.label, ""})
        left_out = f"; {format_names(lost)} is only in the test part, which is not trained on"
        raise TableError(
            f"--labels {rule}: gives all {len(usable)} images one label, "
            f"{format_name(usable.label.iloc[0])}{left_out if lost else ''}; training needs two or "
            "more"
        )
