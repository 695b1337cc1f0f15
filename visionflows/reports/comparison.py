"""The comparison of two model versions on the same images, with photos of their disagreements."""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from visionflows.evaluation.paired_test import ALPHA, Labels, label_randomization_test
from visionflows.evaluation.statistics import binomial_tail
from visionflows.label_sets import indicators, split_labels
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
    """Images of a class: how many each version predicts correctly, and how many only that one.

    Of several labels: images that have the class or get it from A or B, and who decides correctly.
    """

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
    `same_validation_images`: both versions were validated on the same images. Of several labels,
    `label`, `a` and `b` are all labels of an image, and `probabilities` has those of each class, by
    version. The test is then one of a metric: `label_test`.
    """

    mcnemar_alpha: ClassVar[float] = 0.05  # probability of promoting a candidate that is no better

    a: Model
    b: Model
    source: Storage
    rows: "pd.DataFrame"
    not_compared: int
    gone: int
    same_validation_images: bool
    same_group: int = 0
    probabilities: "dict[str, pd.Series]" = dataclasses.field(default_factory=dict)

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
    def multi_label(self) -> bool:
        return self.a.info.multi_label

    @property
    def alpha(self) -> float:
        return ALPHA if self.multi_label else self.mcnemar_alpha

    @property
    def metric(self) -> str:
        """The metric that A was trained for."""
        return self.a.info.training.metric

    @functools.cached_property
    def metrics(self) -> tuple[float, float, float]:
        """Of several labels: the metric of A and of B, and the p-value that A is better."""
        return self.label_test(self.metric)

    def label_test(self, metric: str, reverse: bool = False) -> tuple[float, float, float]:
        """A metric of several labels for A and B, and the p-value that A is better.

        With `reverse` they change places.
        """
        if not self.images:
            return 0.0, 0.0, 1.0
        names = sorted({*self.a.classes, *self.b.classes})
        a, b = self._labels("a", self.a, names), self._labels("b", self.b, names)
        targets = indicators([*self.rows.label], names)
        return label_randomization_test(*((b, a) if reverse else (a, b)), targets, metric)

    def _labels(self, letter: str, model: Model, names: list[str]) -> Labels:
        scores = np.zeros((self.images, len(names)), np.float32)
        scores[:, [*map(names.index, model.classes)]] = np.stack([*self.probabilities[letter]])
        return Labels(indicators([*self.rows[letter]], names), scores)

    @functools.cached_property
    def p_value(self) -> float:
        """The one-sided p-value that A is better, by McNemar's exact test or `label_test`."""
        if self.multi_label:
            return self.metrics[2]
        return mcnemar_test(len(self.only_a_right), len(self.only_b_right))

    @functools.cached_property
    def p_value_of_b(self) -> float:
        """The one-sided p-value that B is better."""
        if self.multi_label:
            return self.label_test(self.metric, reverse=True)[2]
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
        if self.multi_label:
            return [*self._label_counts()]
        label = self.rows.label
        a, b = self.rows.a == label, self.rows.b == label
        masks = (label == label, a, b, a & ~b, b & ~a)
        counts = [mask.groupby(label).sum() for mask in masks]
        known = (name for name in self.a.classes if name in counts[0])
        return [ClassCounts(name, *(int(one[name]) for one in counts)) for name in known]

    def _label_counts(self) -> Iterator[ClassCounts]:
        texts = (self.rows[name].map(split_labels) for name in ("label", "a", "b"))
        rows = [*zip(*texts, strict=True)]
        for name in self.a.classes:
            found = np.array([[name in one for one in row] for row in rows]).reshape(-1, 3)
            found = found[found.any(1)]
            a, b = (found[:, at] == found[:, 0] for at in (1, 2))
            if len(found):
                counts = (a, b, a & ~b, b & ~a)
                yield ClassCounts(name, len(found), *(int(one.sum()) for one in counts))

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
            **self._metric_values(),
            "better": self.better or None,
            **{name: getattr(self, name) for name in test},
            "only_a_knows": self.only_a_knows,
            "only_b_knows": self.only_b_knows,
            "classes": [row._asdict() for row in self.classes],
            "disagreements": [disagreement._asdict() for disagreement in self.disagreements],
        }

    def _metric_values(self) -> dict[str, Any]:
        if not self.multi_label:
            return {}
        of_a, of_b, _ = self.metrics
        return {"metric": self.metric, "a_metric": of_a, "b_metric": of_b}


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
