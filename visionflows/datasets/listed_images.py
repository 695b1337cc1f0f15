"""Match the images that a label file lists with those of a folder."""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from visionflows.datasets.folder_layout import TEST, Layout, Row, nfc
from visionflows.datasets.format_names import first_three, format_name, format_names
from visionflows.datasets.label_file import LabelFile
from visionflows.datasets.label_rules import LabelRule
from visionflows.datasets.path_matching import Match, PathMatcher


class Listed(NamedTuple):
    """What a label file says of an image: its path, label or labels, split, group.

    It is counted by its line, or from 1. `role` is what the split means, if it is used.
    """

    number: int
    path: str
    label: str = ""
    split: str = ""
    group: str = ""
    labels: tuple[str, ...] | None = None  # None: there is no list of them
    role: str = ""

    def row(self, path: str) -> Row:
        """The row of the image at a path."""
        labels = {} if self.labels is None else {"labels": self.labels}
        label = self.label or ";".join(self.labels or ())
        return {"path": path, "label": label, "role": self.role, "group": nfc(self.group), **labels}


@dataclass(frozen=True)
class ListedImages:
    """The images that a file lists, whose rule says what to do about those that are not there."""

    file: LabelFile
    rule: LabelRule
    images: list[Listed]
    unit: str = "image"  # what they are counted by
    has_folders: bool = False  # whether a column has the folders of their paths

    def rows(self, matcher: PathMatcher, layout: Layout) -> tuple[list[Row], list[str]]:
        """A row of path, label, labels, role and group for each image in the folder; and notes.

        Raises TableError.
        """
        matches, notes = _find_images(self.images, matcher, layout)
        rows: dict[str, tuple[Row, Listed, str]] = {}
        unmatched = []
        for image, match in zip(self.images, matches, strict=True):
            if len(match.paths) == 1:
                self._add(rows, image, match)
            elif image.role != TEST:  # test images are often elsewhere
                unmatched.append((image, match.paths))
        missing = [image for image, found in unmatched if not found]
        if self.rule.missing == "skip" and rows and missing:
            unmatched = [one for one in unmatched if one[1]]
            names = format_names([image.path for image in missing])
            notes.append(f"{len(missing)} of its paths name no image, so skipped: {names}")
        if unmatched:
            self.file.fail(self._describe(unmatched, matcher.folder))
        if not any(row["label"] for row, _, _ in rows.values()):
            self.file.fail(f"has no {self.unit} with a label; fill in its labels")
        return [rows[path][0] for path in sorted(rows)], notes

    def _add(self, rows: dict[str, tuple[Row, Listed, str]], image: Listed, match: Match) -> None:
        """Add a row; with --multi-label another one of the same image adds its labels."""
        (path,) = match.paths
        row = image.row(path)
        first, first_image, above = rows.setdefault(path, (row, image, match.above))
        is_same = first == row
        if not is_same and self.rule.multi_label and "labels" in first and "labels" in row:
            first["labels"] = first["labels"] + row.pop("labels")
            is_same = all(first[key] == row[key] for key in ("role", "group"))
        if not is_same or (above and match.above and above != match.above):
            self.file.fail(
                f"names {format_name(path)} twice, with different values or folders "
                f"({self.unit}s {first_image.number} and {image.number}); take one of them out, or "
                "use --multi-label if it has both labels"
            )

    def _describe(self, unmatched: list[tuple[Listed, list[str]]], folder: str) -> str:
        """The error for what names no image or, if there is none of these, several."""
        missing = [image for image, found in unmatched if not found]
        images = missing or [image for image, _ in unmatched]
        numbers = first_three([str(image.number) for image in images])
        span = f"({self.unit}{'s' if images[1:] else ''} {numbers})"
        names = [image.path for image in images]
        if missing:
            joined = ", with the column of folders" if self.has_folders else ""
            return (
                f"{len(images)} of its paths name no image in {folder} {span}: "
                f"{format_names(names)}{joined}; write them from that folder on, take those "
                f"{self.unit}s out, or use --missing skip"
            )
        remarks = [format_names(found) for _, found in unmatched]
        return (
            f"{len(images)} of its paths may mean several images {span}: "
            f"{format_names(names, remarks)}; write their folders and endings too"
        )


def unused_note(declared: Iterable[str], images: list[Listed]) -> list[str]:
    """A note on the classes that a file declares and no image has."""
    used = {label for image in images for label in image.labels or ()}
    unused = sorted({*declared} - used)
    return [f"classes without an image, so not learned: {format_names(unused)}"] if unused else []


def _find_images(
    images: list[Listed], matcher: PathMatcher, layout: Layout
) -> tuple[list[Match], list[str]]:
    """The images that each one listed may be; and notes on what was decided."""
    found = [matcher.find(image.path) for image in images]
    above = {match.above for match in found if match.above}
    other = {each for each in above if not matcher.is_own_folder(each)}
    notes = []
    if other != above:  # some name the dataset's own folder: the others mean another one
        found = [Match([]) if match.above in other else match for match in found]
    elif other:
        notes.append(
            f"its paths begin with {format_names(sorted(other))}, which is not the folder of "
            f"the dataset, {matcher.folder}: they were matched by what follows; check "
            "that they mean the same images"
        )
    chosen = [
        match if image.role == TEST else _without_tests(match, layout)
        for image, match in zip(images, found, strict=True)
    ]
    if count := sum(len(a.paths) != len(b.paths) for a, b in zip(found, chosen, strict=True)):
        notes.append(f"{count} names are of a test image too; those are not used")
    return chosen, notes


def _without_tests(match: Match, layout: Layout) -> Match:
    """Of several images the only one that is not in a test folder, as Kaggle's ids mean."""
    if len(match.paths) < 2:
        return match
    folders = layout.folders
    kept = [path for path in match.paths if folders[posixpath.dirname(path)].role != TEST]
    return match._replace(paths=kept) if len(kept) == 1 else match
