"""The comparison of two model versions on the same images, with photos of their disagreements."""

import dataclasses
import functools
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visionflows.evaluation.paired_test import (
    ALPHA,
    PairedTest,
    Predictions,
    label_randomization_test,
    randomization_test,
)
from visionflows.evaluation.statistics import binomial_tail
from visionflows.label_sets import indicators
from visionflows.models.artifact import Model
from visionflows.reports.links import link_to_model
from visionflows.reports.rendering import render
from visionflows.reports.thumbnails import read_thumbnail
from visionflows.storage.base import Storage

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 20  # photos of each kind of disagreement
MCNEMAR_ALPHA = 0.05  # the significance level of McNemar's test


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

    With several labels a photo: images that have the class, or get it from a version.
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
    `same_validation_images`: both versions were validated on the same images. With several labels a
    photo, `scores` are the probabilities of both versions, float32 (images, classes), of
    `all_classes`.
    """

    a: Model
    b: Model
    source: Storage
    rows: "pd.DataFrame"
    not_compared: int
    gone: int
    same_validation_images: bool
    same_group: int = 0
    scores: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def metric(self) -> str:
        """The metric that A was trained for; it decides which version is better."""
        return self.a.info.training.metric

    @property
    def multi_label(self) -> bool:
        """Whether both versions give several labels a photo."""
        return self.a.info.multi_label

    @functools.cached_property
    def test(self) -> PairedTest:
        """The paired test by the metric: McNemar's for the error rate, else by randomization."""
        if self.metric == "error_rate" or not self.images:
            only_a, only_b = len(self.only_a_right), len(self.only_b_right)
            rate_a, rate_b = (each / max(self.images, 1) for each in (self.a_errors, self.b_errors))
            p_values = mcnemar_test(only_a, only_b), mcnemar_test(only_b, only_a)
            return PairedTest(rate_a, rate_b, *p_values)
        actual, a, b = map(self._has_class, (self.rows.label, self.rows.a, self.rows.b))
        if self.scores is not None:
            of_a, of_b = map(Predictions, (a, b), self.scores)
            return label_randomization_test(of_a, of_b, actual, self.metric)
        targets, class_a, class_b = (one.argmax(1) for one in (actual, a, b))
        return randomization_test(class_a, class_b, targets, len(self.all_classes), self.metric)

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
    def alpha(self) -> float:
        """The significance level: the probability of promoting a candidate that is no better."""
        return MCNEMAR_ALPHA if self.metric == "error_rate" else ALPHA

    @property
    def p_value(self) -> float:
        """The one-sided p-value of A being better."""
        return self.test.p_value

    @property
    def p_value_of_b(self) -> float:
        """The one-sided p-value of B being better."""
        return self.test.p_value_of_production

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
    def all_classes(self) -> list[str]:
        """The classes that a version knows, sorted."""
        return sorted({*self.a.classes, *self.b.classes})

    @property
    def classes(self) -> list[ClassCounts]:
        """The counts of each class that was compared, in the order of A's classes."""
        actual, *predicted = map(self._has_class, (self.rows.label, self.rows.a, self.rows.b))
        counted = actual | predicted[0] | predicted[1] if self.multi_label else actual
        a, b = ((one == actual) & counted for one in predicted)
        counts = np.stack([one.sum(0) for one in (counted, a, b, a & ~b, b & ~a)], 1).tolist()
        rows = dict(zip(self.all_classes, counts, strict=True))
        return [ClassCounts(name, *rows[name]) for name in self.a.classes if rows[name][0]]

    def _has_class(self, labels: "pd.Series") -> np.ndarray:
        """Which image has which of `all_classes`: bool (images, classes)."""
        if self.multi_label:
            return indicators([*labels], self.all_classes)
        return np.asarray(labels.to_numpy()[:, None] == np.array(self.all_classes, object))

    def label_changes(self) -> list[tuple[str, str, str, int]]:
        """Actual label, A's label, B's label, and the number of images; most frequent first."""
        counts = Counter((one.label, one.a, one.b) for one in self.disagreements)
        order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(*labels, count) for labels, count in order]

    def as_dict(self) -> dict[str, Any]:
        """The comparison for JSON: counts, the test, the classes, every disagreement."""
        counts = ("images", "a_errors", "b_errors", "both_right", "both_wrong_alike")
        test = ("metric", "p_value", "p_value_of_b", "alpha", "not_compared", "same_group", "gone")
        return {
            "a": self.a.name,
            "b": self.b.name,
            **{name: getattr(self, name) for name in counts},
            "only_a_right": len(self.only_a_right),
            "only_b_right": len(self.only_b_right),
            "both_wrong_apart": len(self.both_wrong_apart),
            "better": self.better or None,
            **{name: getattr(self, name) for name in test},
            "a_metric": self.test.candidate,
            "b_metric": self.test.production,
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
