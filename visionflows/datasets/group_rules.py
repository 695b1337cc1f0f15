"""The rules that say which images belong together, such as those of a camera, patient or burst.

Images of a group stay on one side of every split that is drawn.
"""

import dataclasses
import posixpath
import re

from visionflows.datasets.folder_layout import Row, nfc
from visionflows.datasets.format_names import format_names
from visionflows.datasets.label_rules import LabelRule, check_pattern
from visionflows.errors import SettingsError, TableError


@dataclasses.dataclass(frozen=True)
class GroupRule:
    """Where groups come from; without a kind, there are none."""

    kind: str = ""  # folder, regex or column
    value: str = ""  # the regex's pattern, or the name of the column

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind

    @property
    def column(self) -> str:
        """The column of the label CSV that holds the groups, if that is the rule."""
        return self.value if self.kind == "column" else ""

    def apply(self, rows: list[Row]) -> list[str]:
        """Put the group, empty for none, on labelled rows; a note counts the images without one.

        Raises TableError if no image has a group.
        """
        for row in rows:
            row["group"] = self._group(nfc(row["path"])) if not self.column else row["group"]
        without = [row["path"] for row in rows if row["label"] and not row["group"]]
        if not self.kind or not without:
            return []
        if not any(row["label"] and row["group"] for row in rows):
            raise TableError(
                f"--group {self}: gives no image a group, such as {format_names(without)}"
            )
        count = f"{len(without)} images without a group, each one of its own"
        return [f"--group {self}: {count}: {format_names(without)}"]

    def _group(self, path: str) -> str:
        if self.kind == "folder":
            return posixpath.dirname(path)
        match = re.search(nfc(self.value), path) if self.kind else None
        return (match and match[1]) or ""


def parse_group_rule(text: str, labels: LabelRule) -> GroupRule:
    """The rule for `folder`, `regex:PATTERN`, `column:NAME` or, for no groups, an empty text.

    Raises SettingsError for any other, for a pattern without exactly one group, and for a column
    without a label CSV.
    """
    kind, _, value = text.partition(":")
    if not text or text == "folder":
        return GroupRule(kind)
    if kind not in ("regex", "column") or not value:
        raise SettingsError(
            f"--group {text}: no such rule; give folder, regex:<pattern with one group> or "
            "column:<name in the label CSV>"
        )
    if kind == "regex":
        check_pattern(f"--group {text}", value, "the group's name")
    elif labels.kind != "csv":
        raise SettingsError(
            f"--group {text}: needs --labels csv:<path or URI>, but has --labels {labels}"
        )
    return GroupRule(kind, value)
