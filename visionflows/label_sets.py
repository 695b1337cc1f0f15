"""Several labels of an image as one text: sorted, joined by a semicolon, such as `cat;sofa`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SEPARATOR = ";"


def is_multi_label(table: "pd.DataFrame") -> bool:
    """Whether the images of a file table have several labels."""
    return bool(table.attrs.get("multi_label"))


def join_labels(labels: Iterable[str]) -> str:
    """The labels as one text; empty if there are none."""
    return SEPARATOR.join(sorted({*labels}))


def all_classes(texts: Iterable[str], multi_label: bool) -> list[str]:
    """The sorted classes of the images with these texts in the column `label`."""
    if not multi_label:
        return sorted({*texts})
    return sorted({label for text in texts for label in split_labels(text)})


def count_labels(counts: Mapping[str, int]) -> Counter[str]:
    """How many images have each label, from how many have each text of `join_labels`."""
    found = Counter[str]()
    for text, images in counts.items():
        found.update(dict.fromkeys(split_labels(text), images))
    return found


def split_labels(text: str) -> tuple[str, ...]:
    """The labels in a text of `join_labels`."""
    return tuple(text.split(SEPARATOR)) if text else ()


def indicators(texts: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Which image has which class: bool (images, classes). Raises KeyError for other classes."""
    at = {name: index for index, name in enumerate(classes)}
    found = np.zeros((len(texts), len(classes)), bool)
    for row, text in enumerate(texts):
        found[row, [at[label] for label in split_labels(text)]] = True
    return found


def class_names(label: str, is_multi: bool) -> tuple[str, ...]:
    """The classes of an image by its label, which is the only one or a text of several."""
    return split_labels(label) if is_multi or not label else (label,)


def are_known(
    labels: "pd.Series[str]", classes: Iterable[str], is_multi: bool
) -> "pd.Series[bool]":
    """Whether all labels of each image are among these classes."""
    known = frozenset(classes)
    return labels.map(lambda label: known.issuperset(class_names(label, is_multi))).astype(bool)


def by_class(table: "pd.DataFrame") -> "pd.DataFrame":
    """A file table with a row per image and class; images of no class have none."""
    if not is_multi_label(table):
        return table
    return table.assign(label=table.label.map(split_labels)).explode("label").dropna(subset="label")
