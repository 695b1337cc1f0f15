"""A file table as people corrected it: their word on an image's content counts, not the rule's.

    from visionflows.training.apply_corrections import apply_corrections
    files, folder = apply_corrections(files, folder, ["scores/night"], "store", settings)

An image of the dataset gets the label that a person gave it, and one that is none of the classes
is left out. One that the dataset lacks, such as a photo that was scored, is brought along
(visionflows.training.imported_images). What a person has looked at is trained on, and judged by only where
that is asked for: people who are shown what a network says agree with it more than others would.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visionflows.datasets import split
from visionflows.datasets.file_table import COLUMNS, UNLABELLED, fingerprint, inspect_images
from visionflows.datasets.folder_layout import nfc
from visionflows.datasets.format_names import format_name, format_names
from visionflows.datasets.split import group_near_duplicates, random_key
from visionflows.errors import SettingsError, TableError
from visionflows.review.corrections import Correction, last_of_each, read_corrections
from visionflows.training.imported_images import beside, bring, kept, linked
from visionflows.training.settings import TrainSettings

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("visionflows.corrections")

NEW_CLASS = 10  # corrected images that make a class of a label which the dataset does not have
NONE = "none of the classes, as a correction says"
_TOLD = "corrections"  # in the table's attrs: what model.json says of them


class Corrected(NamedTuple):
    """A file table, and the folder that its paths are in."""

    files: "pd.DataFrame"
    folder: Path


def check_corrections(corrections: Sequence[str], in_validation: bool) -> None:
    """Nothing, if the corrections can be read, before what takes longer than that.

    Raises PlaceError, TableError, and SettingsError where there are none to judge by.
    """
    if in_validation and not corrections:
        raise SettingsError(
            "--corrections-in-validation: there are no --corrections to judge by; name some"
        )
    read_corrections(corrections)


def apply_corrections(
    files: "pd.DataFrame",
    folder: str | Path,
    corrections: Sequence[str],
    store: str | Path,
    settings: TrainSettings,
    valid_pct: float = 0,
) -> Corrected:
    """The table with what people said, and a folder that has what it names.

    `corrections` are places as `read_corrections` takes them; the later word on the same content
    counts. Corrected images are all trained on; with `valid_pct` those of the dataset stay on their
    side, and of the others that share is validated on, drawn by seed and content. Raises
    PlaceError, and TableError for what is no correction or leaves nothing to train on.
    """
    last, differing = last_of_each(read_corrections(corrections))
    if differing:
        log.warning(
            "told differently by several corrections, the last counts: %d, %s",
            *(len(differing), format_names(differing)),
        )
    if not last:
        return Corrected(files, Path(folder))
    _new_classes(last, files)
    lacking = {*last} - {*files.sha256}
    table, told = _relabelled(files, last, keep_side=valid_pct > 0)
    names = bring((last[sha256] for sha256 in sorted(lacking) if last[sha256].label), store)
    lost = [last[one].path for one in lacking if last[one].label and one not in names]
    imported: set[str] = set()
    if names:
        more = _brought(names, last, f"{beside(folder)}/", store, settings)
        drawn = more.sha256.map(_lots(settings.seed)) < valid_pct
        more["is_valid"] = (more.status == "ok") & drawn
        table, imported = _joined(table, more), {*more.sha256}
        told["brought"] = int((more.status == "ok").sum())
        told["taken"] += told["brought"]
    alike = group_near_duplicates(table[table.status == "ok"])
    _on_their_sides(table, imported, alike)
    if not valid_pct:
        # What looks like one that people spoke of, which is trained on.
        beside_them = [one for group in alike if not last.keys().isdisjoint(group) for one in group]
        table.loc[table.sha256.isin(beside_them), "is_valid"] = False
    told |= {"files": [*corrections], "lost": len(lost), "in_validation": valid_pct > 0}
    table.attrs = {
        **files.attrs,
        "near_duplicates": split.near_duplicate_notes(*_sided(table), alike),
        _TOLD: told,
    }
    _check(table, lost)
    _check_classes(table, last, files, lost)
    _tell(table, lost)
    if names:
        folder = linked(folder, names.values(), fingerprint(table), store)
    return Corrected(table, Path(folder))


def _on_their_sides(table: "pd.DataFrame", imported: set[str], alike: list[list[str]]) -> None:
    """Have brought images that look like others on the side of those of the dataset, to train on
    where these are on both, and else all as the first of them has drawn."""
    _, valid = _sided(table)
    for group in alike:
        if new := imported.intersection(group):
            leading = [one for one in group if one not in new] or group[:1]
            table.loc[table.sha256.isin(new), "is_valid"] = valid.issuperset(leading)


def _sided(table: "pd.DataFrame") -> tuple["pd.DataFrame", set[str]]:
    """The rows that can be used, and the contents to validate on."""
    usable = table[table.status == "ok"]
    return usable, {*usable.sha256[usable.is_valid.astype(bool)]}


def told_of(files: "pd.DataFrame") -> dict[str, Any]:
    """What model.json's dataset says of the corrections in a table; empty where there are none."""
    return {_TOLD: files.attrs[_TOLD]} if _TOLD in files.attrs else {}


def _relabelled(
    files: "pd.DataFrame", last: dict[str, Correction], keep_side: bool
) -> tuple["pd.DataFrame", dict[str, Any]]:
    """The table with the labels that people gave, and how many contents were so told."""
    table = files.copy()
    usable = table.status == "ok"
    said = usable & table.sha256.isin({*last})
    none = said & table.sha256.isin({one for one, told in last.items() if told.is_none})
    label = table.sha256.map(lambda sha256: nfc(last[sha256].label) if sha256 in last else "")
    changed = said & ~none & (label != table.label)
    table.loc[said, "label"] = label[said]
    table.loc[none, ["status", "error"]] = UNLABELLED, NONE
    table.loc[none if keep_side else said, "is_valid"] = False
    counts = {"taken": said & ~none, "changed": changed, "left_out": none}
    return table, {name: table[rows].sha256.nunique() for name, rows in counts.items()}


def _brought(
    names: dict[str, str],
    last: dict[str, Correction],
    before: str,
    store: str | Path,
    settings: TrainSettings,
) -> "pd.DataFrame":
    """A row for each image that was brought, its path in the folder that will hold it."""
    import pandas as pd

    rows = [(name, nfc(last[sha256].label), "") for sha256, name in sorted(names.items())]
    table = pd.DataFrame(rows, columns=["path", "label", "why"])
    table = inspect_images(
        table, kept(store), settings.max_pixels, settings.decode_options, settings.workers or None
    )
    table["path"] = before + table.path
    return table


def _joined(table: "pd.DataFrame", more: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    both = pd.concat([table[COLUMNS], more[COLUMNS]])
    return both.sort_values("path", ignore_index=True)


def _lots(seed: int) -> Any:
    """What draws a content its lot, from 0 to 1: the same for the same seed."""
    return lambda sha256: int(random_key(seed, sha256)[:8], 16) / 2**32


def _new_classes(
    last: dict[str, Correction], files: "pd.DataFrame", lost: int = 0
) -> dict[str, list[str]]:
    """The labels that the dataset lacks, and which images have them. Raises TableError where these
    are too few to be a class."""
    classes = {*files[files.status == "ok"].label}
    new: dict[str, list[str]] = {}
    for one in last.values():
        if one.label and nfc(one.label) not in classes:
            new.setdefault(nfc(one.label), []).append(one.path)
    few = {label: paths for label, paths in new.items() if len(paths) < NEW_CLASS}
    if few:
        label, paths = next(iter(few.items()))
        gone = f", {lost} corrected images were not found as they were" if lost else ""
        raise TableError(
            f"corrections: {format_name(label)} is no class of the dataset, and {len(paths)} images "
            f"have it ({format_names(paths)}): a new class takes {NEW_CLASS}{gone}; the classes are "
            f"{format_names(sorted(classes))}"
        )
    return new


def _check_classes(
    table: "pd.DataFrame", last: dict[str, Correction], files: "pd.DataFrame", lost: list[str]
) -> None:
    """Nothing, if new classes have enough images that were found. Raises TableError."""
    usable = {*table[table.status == "ok"].sha256}
    there = {sha256: one for sha256, one in last.items() if sha256 in usable}
    for label, paths in _new_classes(there, files, len(lost)).items():
        log.info("corrections: a new class, %s, of %d images", format_name(label), len(paths))


def _check(table: "pd.DataFrame", lost: list[str]) -> None:
    told = table.attrs[_TOLD]
    if lost and not told["taken"] + told["left_out"]:
        raise TableError(
            f"corrections: none of {len(lost)} images was found as it was, such as "
            f"{format_name(min(lost))}; bring them back to their root, or put them beside the "
            "corrections"
        )
    usable = table[table.status == "ok"]
    classes, valid = usable.label.nunique(), int(usable.is_valid.sum())
    if classes < 2 or valid in (0, len(usable)):
        raise TableError(
            f"corrections: they leave {classes} classes, {len(usable) - valid} images to train on "
            f"and {valid} to validate on; add images, or take some corrections out"
        )


def _tell(table: "pd.DataFrame", lost: list[str]) -> None:
    told = table.attrs[_TOLD]
    lines = [
        f"corrections: {told['taken']} labels taken from people, {told['changed']} of them "
        f"others than in the dataset, {told.get('brought', 0)} of images that it lacks; "
        f"{told['left_out']} left out as none of the classes"
    ]
    log.info("%s", lines[0])
    if lost:
        lines.append(
            f"corrected images that were not found as they were, so not trained on: {len(lost)}, "
            f"{format_names(sorted(lost))}"
        )
        log.warning("%s", lines[1])
    table.attrs["notes"] = [*table.attrs.get("notes", []), *lines]
