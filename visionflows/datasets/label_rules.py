"""The rules that give a dataset's images their labels."""

import dataclasses
import posixpath
import re
from typing import Literal

from visionflows.datasets.folder_layout import nfc
from visionflows.errors import SettingsError

_CSV = re.compile(r"(.+)#([^#,]+),([^#,]+)", re.DOTALL)  # the last #: a name may have one too
_FILES = ("csv", "coco", "voc", "cvat")  # kinds of label files
_SEPARABLE = ("csv", "folder", "regex")  # kinds of which --label-sep parts the labels
Missing = Literal["error", "skip"]


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """Where labels come from."""

    kind: str  # folder, uppercase, regex, csv, coco, voc, cvat or keywords
    value: str = ""  # the class names, the regex's pattern, the location, or the branch
    columns: tuple[str, ...] = ()  # of the CSV: path and label, if they are named
    separator: str = ""  # between the labels of an image
    multi_label: bool | None = None  # None: as the source says
    missing: Missing = "error"  # for images that a label file lists and the folder lacks

    def __str__(self) -> str:
        columns = f"#{','.join(self.columns)}" if self.columns else ""
        return f"{self.kind}:{self.value}{columns}" if self.value else self.kind

    @property
    def options(self) -> dict[str, str]:
        """The options of model.json that are not the default."""
        options = {"label_sep": self.separator, "missing": self.missing}
        return {name: value for name, value in options.items() if value not in ("", "error")}

    def repeat(self, separator: str, multi_label: bool, missing: Missing) -> "LabelRule":
        """The rule with the options of a training, where it takes them and has none of its own."""
        return dataclasses.replace(
            self,
            separator=self.separator or (separator if self.kind in _SEPARABLE else ""),
            multi_label=multi_label if self.multi_label is None else self.multi_label,
            missing=missing if self.kind in _FILES and self.missing == "error" else self.missing,
        )

    def label(self, path: str) -> str:
        """The label in a file's name, folders aside; empty if there is none."""
        name = nfc(posixpath.basename(path))
        if self.kind == "uppercase":  # fastai's tutorial: is_cat(x) is x[0].isupper()
            return (self.value or "False,True").split(",")[name[0].isupper()]
        match = re.search(nfc(self.value), name)  # as fastai's RegexLabeller does by default
        return (match and match[1]) or ""


def parse_label_rule(
    text: str,
    separator: str = "",
    multi_label: bool | None = None,
    missing: Missing = "error",
) -> LabelRule:
    """The rule for `folder`, `uppercase`, `regex:PATTERN`, `csv:LOCATION[#path,label]` and such.

    `uppercase:dog,cat` names its classes: for small first letters, and for capitals. A `separator`
    parts the labels of an image. Raises SettingsError for any other, for class names that are not
    two different ones, and for a pattern without exactly one group.
    """
    rule = _parse(text)
    if separator and rule.kind not in _SEPARABLE:
        kinds = ", ".join(_SEPARABLE)
        raise SettingsError(f"--label-sep {separator}: needs --labels of {kinds}, not {text}")
    if missing == "skip" and rule.kind not in _FILES:
        raise SettingsError(f"--missing skip: needs --labels of {', '.join(_FILES)}, not {text}")
    return dataclasses.replace(rule, separator=separator, multi_label=multi_label, missing=missing)


def _parse(text: str) -> LabelRule:
    """The rule without its options. Raises SettingsError."""
    kind, colon, value = text.partition(":")
    if kind in ("folder", "uppercase") and not colon:
        return LabelRule(kind)
    if kind == "uppercase":
        return LabelRule(kind, _class_names(text, value))
    if kind == "csv" and value:
        match = _CSV.fullmatch(value)
        location, *columns = match.groups() if match else [value]
        return LabelRule("csv", location, tuple(columns))
    if kind == "keywords" and bool(colon) == bool(value):
        return LabelRule(kind, value.strip("|"))
    if kind in _FILES and value:
        return LabelRule(kind, value)
    if kind != "regex":
        raise SettingsError(
            f"--labels {text}: no such rule; give folder, uppercase, regex:<pattern with one group>"
            ", csv:<path or URI>, with #PATH,LABEL to name its columns, coco:<path or URI>, "
            "voc:<folder or URI>, cvat:<path or URI>, keywords or keywords:<branch>"
        )
    check_pattern(f"--labels {text}", value, "the label")
    return LabelRule("regex", value)


def check_pattern(option: str, pattern: str, wanted: str) -> None:
    """Raise SettingsError if a pattern does not have exactly one group, for what is `wanted`."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise SettingsError(f"{option}: not a regular expression: {error}") from error
    if groups != 1:
        raise SettingsError(
            f"{option}: has {groups} groups; put one (…) around {wanted}, and write "
            "other groups as (?:…)"
        )


def _class_names(text: str, value: str) -> str:
    """The names of the classes of `uppercase`, parted by a comma. Raises SettingsError."""
    names = [nfc(name.strip()) for name in value.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise SettingsError(
            f"--labels {text}: name the two classes, small first letters before capitals, such as "
            "dog,cat"
        )
    return ",".join(names)
