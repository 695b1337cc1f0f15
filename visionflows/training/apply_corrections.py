"""Apply corrections to a file table: a person's label for an image replaces the label rule's.

Corrected images that the dataset lacks, such as scored photos, are imported
(visionflows.training.imported_images). By default corrected images are only trained on: people who
see a prediction agree with it more often than others would, which makes them biased for validation.
"""

import itertools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from visionflows.datasets import split
from visionflows.datasets.file_table import COLUMNS, fingerprint, inspect_images
from visionflows.datasets.folder_layout import nfc
from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.table_notes import UNLABELLED
from visionflows.errors import SettingsError, TableError
from visionflows.label_sets import (
    all_classes,
    class_names,
    is_multi_label,
    join_labels,
    split_labels,
)
from visionflows.review.corrections import Correction, latest_corrections, read_corrections
from visionflows.training.imported_images import (
    import_images,
    imported_storage,
    link_folder,
    unused_folder_name,
)
from visionflows.training.settings import TrainSettings

log = logging.getLogger("visionflows.corrections")

MIN_NEW_CLASS = 10  # corrected images that a label needs to become a new class
NONE = "corrected: none of the classes"
_SUMMARY = "corrections"  # key of the summary in the table's attrs


class Corrected(NamedTuple):
    """A corrected file table, and the folder that its paths are in."""

    files: pd.DataFrame
    folder: Path


def check_corrections(corrections: Sequence[str], in_validation: bool) -> None:
    """Check that the corrections can be read, before any longer work.

    Raises StorageError, TableError, and SettingsError for `in_validation` without corrections.
    """
    if in_validation and not corrections:
        raise SettingsError("--corrections-in-validation: needs --corrections; name some")
    read_corrections(corrections)


def apply_corrections(
    files: pd.DataFrame,
    folder: str | Path,
    corrections: Sequence[str],
    store: str | Path,
    settings: TrainSettings,
    valid_pct: float = 0,
) -> Corrected:
    """Return the table with the corrected labels, and a folder that has all of its images.

    `corrections` are locations that `read_corrections` takes; the last correction of the same
    content counts. With `valid_pct` corrected images of the dataset keep their split, and that
    share of the imported ones is validated on, drawn by seed and content; without it all are
    trained on. Raises StorageError, and TableError for invalid corrections or too few images left.
    """
    latest = _latest(corrections)
    if not latest:
        return Corrected(files, Path(folder))
    several = is_multi_label(files)
    _check_kind(latest.values(), several)
    _new_classes(latest.values(), files)
    table, summary = _relabel(files, latest, keep_split=valid_pct > 0)
    missing = [latest[sha256] for sha256 in sorted({*latest} - {*files.sha256})]
    wanted = [correction for correction in missing if not correction.is_none]
    names = import_images(wanted, store)
    if names:
        labels = {name: _label(latest[sha256], several) for sha256, name in sorted(names.items())}
        rows = _imported_rows(labels, store, settings, valid_pct)
        rows["path"] = f"{unused_folder_name(folder)}/" + rows.path
        table = pd.concat([table, rows])[COLUMNS].sort_values("path", ignore_index=True)
        summary["imported"] = int((rows.status == "ok").sum())
        summary["taken"] += summary["imported"]
    opened = table[table.status == "ok"]
    duplicates = split.group_contents(opened, split.near_duplicate_ids(opened))
    together = [*duplicates, *_one_sided_groups(table, files)]
    _follow_near_duplicates(table, {*names}, together)
    if not valid_pct:
        summary["moved"] = _move_to_training(table, latest, together)
    lost = sorted(correction.path for correction in wanted if correction.sha256 not in names)
    summary |= {"files": [*corrections], "lost": len(lost), "in_validation": valid_pct > 0}
    notes = split.near_duplicate_notes(*_usable_and_valid(table), duplicates)
    table.attrs = {**files.attrs, "near_duplicates": notes, _SUMMARY: summary}
    _check_result(table, latest, files, lost)
    _add_notes(table, lost, [*table.path[table.is_test & table.sha256.isin({*latest})]])
    if names:
        folder = link_folder(folder, names.values(), fingerprint(table), store)
    return Corrected(table, Path(folder))


def _check_kind(corrections: Iterable[Correction], several: bool) -> None:
    """Raise TableError for an answer that images with one label each cannot have."""
    for one in corrections:
        if (one.decisions or one.is_empty) and not several:
            raise TableError(
                f"corrections: {format_name(one.path)} was reviewed for any number of labels, and "
                "the dataset has one for each image; train with --multi-label, or leave them out"
            )


def _label(one: Correction, several: bool) -> str:
    """Return the column `label` for a correction."""
    return join_labels(map(nfc, split_labels(one.label))) if several else nfc(one.label)


def _latest(corrections: Sequence[str]) -> dict[str, Correction]:
    """Return the last correction of each content, by its sha256."""
    latest, conflicting = latest_corrections(read_corrections(corrections))
    if conflicting:
        log.warning(
            "corrections disagree on %d images, and the last one counts: %s",
            *(len(conflicting), format_names(conflicting)),
        )
    return latest


def corrections_summary(files: pd.DataFrame) -> dict[str, Any]:
    """Return the `corrections` part of model.json's dataset; empty without corrections."""
    return {_SUMMARY: files.attrs[_SUMMARY]} if _SUMMARY in files.attrs else {}


def _relabel(
    files: pd.DataFrame, latest: dict[str, Correction], keep_split: bool
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table with corrected labels, and how many contents were corrected."""
    table = files.copy()
    corrected = (table.status == "ok") & table.sha256.isin({*latest})
    none = corrected & table.sha256.isin({key for key, one in latest.items() if one.is_none})
    labels = {sha256: _label(one, is_multi_label(files)) for sha256, one in latest.items()}
    label = table.sha256.map(lambda sha256: labels.get(sha256, ""))
    changed = corrected & ~none & (label != table.label)
    table.loc[corrected, "label"] = label[corrected]
    table.loc[none, ["status", "error"]] = UNLABELLED, NONE
    table.loc[none if keep_split else corrected, "is_valid"] = False
    counts = {"taken": corrected & ~none, "changed": changed, "left_out": none}
    summary = {name: int(table[rows].sha256.nunique()) for name, rows in counts.items()}
    return table, {**summary, "imported": 0, "moved": 0}


def _imported_rows(
    labels: dict[str, str], store: str | Path, settings: TrainSettings, valid_pct: float
) -> pd.DataFrame:
    """Return a row for each imported image, from its label by name."""
    rows = inspect_images(
        pd.DataFrame({"path": [*labels], "label": [*labels.values()], "why": ""}),
        imported_storage(store),
        settings.max_pixels,
        settings.decode_options,
        settings.workers or None,
    )
    keys = rows.sha256.map(lambda sha256: split.random_key(settings.seed, sha256)[:8])
    is_drawn = keys.map(lambda key: int(key, 16) / 2**32 < valid_pct)
    is_valid = (rows.status == "ok") & is_drawn
    return rows.assign(group="", is_valid=is_valid, is_test=False)


def _follow_near_duplicates(
    table: pd.DataFrame, imported: set[str], duplicates: list[list[str]]
) -> None:
    """Put imported images on the same side of the split as their near-duplicates and group.

    That is training if those of the dataset are on both sides; without any in the dataset it is
    the side that the first one drew.
    """
    _, valid = _usable_and_valid(table)
    for group in duplicates:
        if new := imported.intersection(group):
            leading = [sha256 for sha256 in group if sha256 not in new] or group[:1]
            table.loc[table.sha256.isin(new), "is_valid"] = valid.issuperset(leading)


def _move_to_training(
    table: pd.DataFrame, latest: dict[str, Correction], together: list[list[str]]
) -> int:
    """Also train on the near-duplicates and groups of corrected images; return how many moved."""
    groups = [group for group in together if not latest.keys().isdisjoint(group)]
    moved = table.is_valid.astype(bool) & table.sha256.isin({*itertools.chain(*groups)})
    table.loc[moved, "is_valid"] = False
    return int(moved.sum())


def _one_sided_groups(table: pd.DataFrame, files: pd.DataFrame) -> list[list[str]]:
    """Return the groups that are on one side of the dataset's split; a given split may cut some."""
    usable = table[table.status == "ok"]
    groups = split.group_contents(usable, split.same_side_ids(usable))
    usable, valid = _usable_and_valid(files)
    both = {*usable.sha256} - valid, valid
    return [group for group in groups if any(side.isdisjoint(group) for side in both)]


def _usable_and_valid(table: pd.DataFrame) -> tuple[pd.DataFrame, set[str]]:
    """Return the usable rows, and the sha256 of the contents to validate on."""
    usable = table[table.status == "ok"]
    return usable, {*usable.sha256[usable.is_valid.astype(bool)]}


def _new_classes(
    corrections: Iterable[Correction], files: pd.DataFrame, lost: int = 0
) -> dict[str, list[str]]:
    """Return the paths by label for labels that the dataset lacks.

    Raises TableError for a label with too few images to be a class.
    """
    several = is_multi_label(files)
    classes = {*all_classes(files[files.status == "ok"].label, several)}
    new: dict[str, list[str]] = {}
    for one in corrections:
        for label in {*class_names(_label(one, several), several)} - classes:
            new.setdefault(label, []).append(one.path)
    for label, paths in new.items():
        if len(paths) < MIN_NEW_CLASS:
            not_found = f"; {lost} corrected images were not found" if lost else ""
            raise TableError(
                f"corrections: {format_name(label)} is not a class of the dataset, and only "
                f"{len(paths)} images have it ({format_names(paths)}); a new class needs "
                f"{MIN_NEW_CLASS}{not_found}; the classes are {format_names(sorted(classes))}"
            )
    return new


def _check_result(
    table: pd.DataFrame, latest: dict[str, Correction], files: pd.DataFrame, lost: list[str]
) -> None:
    """Raise TableError if too little was found of the corrected images, or is left to train on."""
    summary, (usable, valid) = table.attrs[_SUMMARY], _usable_and_valid(table)
    if lost and not summary["taken"] + summary["left_out"]:
        raise TableError(
            f"corrections: none of {len(lost)} images was found with its content, such as "
            f"{format_name(lost[0])}; put them back at their root, or beside the corrections"
        )
    trained = usable[~usable.is_valid.astype(bool)]
    several = is_multi_label(files)
    classes, train = len(all_classes(usable.label, several)), len(trained)
    if several and (
        never := {*all_classes(usable.label, True)} - {*all_classes(trained.label, True)}
    ):
        raise TableError(
            f"corrections: they leave no image of {format_names(sorted(never))} to train on; "
            "add images, remove some corrections, or use --corrections-in-validation"
        )
    if classes < 2 or not valid or not train:
        raise TableError(
            f"corrections: they leave {classes} classes, {train} images to train on and "
            f"{len(usable) - train} to validate on; add images, remove some corrections, or use "
            "--corrections-in-validation"
        )
    found = [latest[sha256] for sha256 in latest.keys() & {*usable.sha256}]
    for label, paths in _new_classes(found, files, len(lost)).items():
        log.info("corrections: new class %s with %d images", format_name(label), len(paths))


def _add_notes(table: pd.DataFrame, lost: list[str], tests: list[str]) -> None:
    summary = table.attrs[_SUMMARY]
    lines = [
        f"corrections: {summary['taken']} corrected labels, {summary['changed']} of them changed "
        f"the label of the dataset, {summary['imported']} are of imported images; "
        f"{summary['left_out']} images left out as none of the classes"
    ]
    if moved := summary["moved"]:
        lines[0] += f"; {moved} others moved to training, as near-duplicates or of a group"
    log.info("%s", lines[0])
    warnings = {
        "corrected images that were not found with their content, so not trained on": lost,
        "corrected test images, which keep their label and are not trained on": tests,
    }
    for what, paths in warnings.items():
        if paths:
            lines.append(f"{what}: {len(paths)}, {format_names(paths)}")
            log.warning("%s", lines[-1])
    table.attrs["notes"] = [*table.attrs.get("notes", []), *lines]
