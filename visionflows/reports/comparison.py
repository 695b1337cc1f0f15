"""The comparison of two model versions on the same images, with photos of their disagreements."""

import dataclasses
import functools
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from visionflows.evaluation.statistics import binomial_tail
from visionflows.models.artifact import Model
from visionflows.reports.links import link_to_model
from visionflows.reports.rendering import render
from visionflows.reports.thumbnails import read_thumbnail
from visionflows.storage.base import Storage

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 20  # photos of each kind of disagreement


class Disagreement(NamedTuple):
    """An image with its actual label, and the labels and probabilities that A and B predict."""

    path: str
    label: str
    a: str
    a_probability: float
    b: str
    b_probability: float


class ClassCounts(NamedTuple):
    """Images of a class: how many each version predicts correctly, and how many only that one."""

    name: str
    images: int
    a_right: int
    b_right: int
    only_a_right: int
    only_b_right: int


def mcnemar_test(more: int, fewer: int) -> float:
    """The p-value of McNemar's exact test, one-sided, of the images that only one has right."""
    return binomial_tail(more, more + fewer, 0.5)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two versions and their predictions for images in `source` that neither was trained on.

    `rows` are indexed by path and have the columns of `Disagreement`. `not_compared` counts images
    of classes that B does not know, and `same_group` those of groups that B was trained on. `gone`
    counts images that are missing, have changed since the training, or cannot be decoded.
    `same_validation_images`: both versions were validated on the same images.
    """

    alpha: ClassVar[float] = 0.05  # the probability of promoting a candidate that is no better

    a: Model
    b: Model
    source: Storage
    rows: "pd.DataFrame"
    not_compared: int
    gone: int
    same_validation_images: bool
    same_group: int = 0

    @property
    def images(self) -> int:
        """The number of images that were compared."""
        return len(self.rows)

    @property
    def a_errors(self) -> int:
        return int((self.rows.a != self.rows.label).sum())

    @property
    def b_errors(self) -> int:
        return int((self.rows.b != self.rows.label).sum())

    @functools.cached_property
    def disagreements(self) -> list[Disagreement]:
        """The images with different labels, those with the most confident wrong label first."""
        rows = self.rows[self.rows.a != self.rows.b]
        return sorted(map(Disagreement._make, rows.itertuples()), key=_most_confident_error_first)

    @property
    def only_a_right(self) -> list[Disagreement]:
        return [one for one in self.disagreements if one.a == one.label]

    @property
    def only_b_right(self) -> list[Disagreement]:
        return [one for one in self.disagreements if one.b == one.label]

    @property
    def both_wrong_apart(self) -> list[Disagreement]:
        return [one for one in self.disagreements if one.label not in (one.a, one.b)]

    @property
    def both_wrong_alike(self) -> int:
        """The number of images for which both predict the same wrong label."""
        return self.a_errors - len(self.only_b_right) - len(self.both_wrong_apart)

    @property
    def both_right(self) -> int:
        """The number of images that both predict correctly."""
        return self.images - self.a_errors - len(self.only_a_right)

    @property
    def p_value(self) -> float:
        """The one-sided p-value of McNemar's exact test that A is better."""
        return mcnemar_test(len(self.only_a_right), len(self.only_b_right))

    @property
    def p_value_of_b(self) -> float:
        """The one-sided p-value that B is better."""
        return mcnemar_test(len(self.only_b_right), len(self.only_a_right))

    @property
    def better(self) -> str:
        """`a`, `b`, or empty if neither p-value is at most `alpha`."""
        if self.p_value <= self.alpha:
            return "a"
        return "b" if self.p_value_of_b <= self.alpha else ""

    @property
    def only_a_knows(self) -> list[str]:
        return sorted({*self.a.classes} - {*self.b.classes})

    @property
    def only_b_knows(self) -> list[str]:
        return sorted({*self.b.classes} - {*self.a.classes})

    @property
    def classes(self) -> list[ClassCounts]:
        """The counts of each class that was compared, in the order of A's classes."""
        label = self.rows.label
        a, b = self.rows.a == label, self.rows.b == label
        masks = (label == label, a, b, a & ~b, b & ~a)
        counts = [mask.groupby(label).sum() for mask in masks]
        known = (name for name in self.a.classes if name in counts[0])
        return [ClassCounts(name, *(int(one[name]) for one in counts)) for name in known]

    def label_changes(self) -> list[tuple[str, str, str, int]]:
        """Actual label, A's label, B's label, and the number of images; most frequent first."""
        counts = Counter((one.label, one.a, one.b) for one in self.disagreements)
        order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(*labels, count) for labels, count in order]

    def as_dict(self) -> dict[str, Any]:
        """The comparison for JSON: counts, the test, the classes, every disagreement."""
        counts = ("images", "a_errors", "b_errors", "both_right", "both_wrong_alike")
        test = ("p_value", "p_value_of_b", "alpha", "not_compared", "same_group", "gone")
        return {
            "a": self.a.name,
            "b": self.b.name,
            **{name: getattr(self, name) for name in counts},
            "only_a_right": len(self.only_a_right),
            "only_b_right": len(self.only_b_right),
            "both_wrong_apart": len(self.both_wrong_apart),
            "better": self.better or None,
            **{name: getattr(self, name) for name in test},
            "only_a_knows": self.only_a_knows,
            "only_b_knows": self.only_b_knows,
            "classes": [row._asdict() for row in self.classes],
            "disagreements": [disagreement._asdict() for disagreement in self.disagreements],
        }


def _most_confident_error_first(row: Disagreement) -> tuple[float, str]:
    predictions = ((row.a, row.a_probability), (row.b, row.b_probability))
    wrong = [probability for label, probability in predictions if label != row.label]
    return -max(wrong), row.path


def render_comparison(comparison: Comparison, folder: str = ".") -> str:
    """The HTML page of a comparison, with photos; it lies in `folder`."""
    kinds = ("only_a_right", "only_b_right", "both_wrong_apart")
    return render(
        "comparison.html",
        comparison=comparison,
        versions=[("A", comparison.a.info), ("B", comparison.b.info)],
        links=[
            link_to_model(str(comparison.a.storage), folder, "Training report of A"),
            link_to_model(str(comparison.b.storage), folder, "Training report of B"),
        ],
        photos={kind: _read_photos(getattr(comparison, kind), comparison.source) for kind in kinds},
        classes=sorted(comparison.classes, key=lambda row: -(row.only_a_right + row.only_b_right)),
        changes=comparison.label_changes(),
    )


def _interleave(disagreements: list[Disagreement]) -> list[Disagreement]:
    """The disagreements in rounds, one of each label change after another."""
    by_change: dict[tuple[str, str, str], list[Disagreement]] = {}
    for one in disagreements:
        by_change.setdefault((one.label, one.a, one.b), []).append(one)
    rounds = itertools.zip_longest(*sorted(by_change.values(), key=len, reverse=True))
    return [one for some in rounds for one in some if one is not None]


def _read_photos(
    disagreements: list[Disagreement], source: Storage
) -> list[tuple[Disagreement, bytes]]:
    """The first SAMPLES disagreements whose photo can be read, with its thumbnail."""
    photos = ((one, read_thumbnail(source, one.path)) for one in _interleave(disagreements))
    return [*itertools.islice(((one, jpeg) for one, jpeg in photos if jpeg), SAMPLES)]
