"""A file table as people corrected it: their word on an image's content counts, not the rule's.

    from visionflows.training.corrected import with_corrections
    files, folder = with_corrections(files, folder, ["scores/night"], "store", settings)

An image of the dataset gets the label that a person gave it, and one that is none of the classes
is left out. One that the dataset lacks, such as a photo that was scored, is brought along
(visionflows.training.brought). What a person has looked at is trained on, and judged by only where
that is asked for: people who are shown what a network says agree with it more than others would.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visionflows.data.layout import nfc
from visionflows.data.lines import shown, some
from visionflows.data.split import look_alikes, lot
from visionflows.data.table import COLUMNS, UNLABELLED, fingerprint, with_contents
from visionflows.errors import TableError
from visionflows.training.brought import beside, bring, kept, linked
from visionflows.training.settings import TrainSettings
from visionflows.trust.corrections import Correction, last_of_each, read_corrections

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


def with_corrections(
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
            *(len(differing), some(differing)),
        )
    if not last:
        return Corrected(files, Path(folder))
    _check_labels(last, files)
    lacking = {*last} - {*files.sha256}
    table, told = _relabelled(files, last, keep_side=valid_pct > 0)
    names = bring((last[sha256] for sha256 in sorted(lacking) if last[sha256].label), store)
    lost = [last[one].path for one in lacking if last[one].label and one not in names]
    if names:
        more = _brought(names, last, f"{beside(folder)}/", store, settings)
        more["is_valid"] = (more.status == "ok") & (
            more.sha256.map(_lots(settings.seed)) < valid_pct
        )
        table = _joined(table, more)
        told["brought"] = int((more.status == "ok").sum())
        told["taken"] += told["brought"]
    if not valid_pct:
        table.loc[table.sha256.isin(_beside_trained(table, {*last})), "is_valid"] = False
    table.attrs = {**files.attrs, _TOLD: {"files": [*corrections], **told, "lost": len(lost)}}
    table.attrs[_TOLD]["in_validation"] = valid_pct > 0
    _check(table, lost)
    _tell(table, lost)
    if names:
        folder = linked(folder, names.values(), fingerprint(table), store)
    return Corrected(table, Path(folder))


def _beside_trained(table: "pd.DataFrame", said: set[str]) -> set[str]:
    """Contents that look like one that people spoke of, which is trained on."""
    alike = look_alikes(table[table.status == "ok"])
    return {one for group in alike if said.intersection(group) for one in group}


def told_of(files: "pd.DataFrame") -> dict[str, Any]:
    """What model.json's dataset says of the corrections in a table; empty where there are none."""
    return {_TOLD: files.attrs[_TOLD]} if _TOLD in files.attrs else {}


def _relabelled(
    files: "pd.DataFrame", last: dict[str, Correction], keep_side: bool
) -> tuple["pd.DataFrame", dict[str, int]]:
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
    table = with_contents(
        table, kept(store), settings.max_pixels, settings.opening, settings.workers or None
    )
    table["path"] = before + table.path
    return table


def _joined(table: "pd.DataFrame", more: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    both = pd.concat([table[COLUMNS], more[COLUMNS]])
    return both.sort_values("path", ignore_index=True)


def _lots(seed: int) -> Any:
    """What draws a content its lot, from 0 to 1: the same for the same seed."""
    return lambda sha256: int(lot(seed, sha256)[:8], 16) / 2**32


def _check_labels(last: dict[str, Correction], files: "pd.DataFrame") -> None:
    """Nothing, if each label is a class, or has enough images to be one. Raises TableError."""
    classes = {*files[files.status == "ok"].label}
    new: dict[str, list[str]] = {}
    for one in last.values():
        if one.label and nfc(one.label) not in classes:
            new.setdefault(nfc(one.label), []).append(one.path)
    few = {label: paths for label, paths in new.items() if len(paths) < NEW_CLASS}
    if few:
        label, paths = next(iter(few.items()))
        raise TableError(
            f"corrections: {shown(label)} is no class of the dataset, and {len(paths)} images have "
            f"it ({some(paths)}): a new class takes {NEW_CLASS}; the classes are "
            f"{some(sorted(classes))}"
        )
    for label, paths in new.items():
        log.info("corrections: a new class, %s, of %d images", shown(label), len(paths))


def _check(table: "pd.DataFrame", lost: list[str]) -> None:
    told = table.attrs[_TOLD]
    if lost and not told["taken"] + told["left_out"]:
        raise TableError(
            f"corrections: none of {len(lost)} images was found as it was, such as "
            f"{shown(min(lost))}; bring them back to their root, or put them beside the corrections"
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
            f"{some(sorted(lost))}"
        )
        log.warning("%s", lines[1])
    table.attrs["notes"] = [*table.attrs.get("notes", []), *lines]
