"""The page of two versions on the same images: what flips between them, and whether it is luck.

    from visionflows.reports.comparison import comparison_report
    page = comparison_report(comparison, source)          # source: the place of the images

What it says comes from visionflows.training.comparison.disagreements.
"""

import dataclasses
import itertools
from typing import NamedTuple

from visionflows.models.schema import ModelInfo
from visionflows.reports.page import page
from visionflows.reports.thumbnails import thumbnail
from visionflows.storage.base import Storage

SAMPLES = 20  # pictures of each kind of flip, three kinds: sixty in all
CHANGES, CLASSES = 30, 200  # rows of tables


class Disagreement(NamedTuple):
    """An image that the two label differently: what it is, what each says, and how sure."""

    path: str
    label: str
    a: str
    a_probability: float
    b: str
    b_probability: float


class ClassCounts(NamedTuple):
    """The images of a class: how many each version has right, and how many it alone has."""

    name: str
    images: int
    a_right: int
    b_right: int
    only_a_right: int
    only_b_right: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two versions on the same images, which neither was trained on.

    `p_value` is the chance that A has so many of the images that tell them apart, or more, were
    both equally good; `p_value_of_b` the same of B. `better` is `a`, `b` or empty: that chance is
    at most `alpha`. `flips` are all images that the two label differently, the most certain wrong
    answers first. `not_compared` and `gone` count images that were left aside.
    """

    a: ModelInfo
    b: ModelInfo
    images: int
    a_errors: int
    b_errors: int
    both_wrong_alike: int
    p_value: float
    p_value_of_b: float
    alpha: float
    better: str
    not_compared: int
    gone: int
    only_a_knows: list[str]
    only_b_knows: list[str]
    classes: list[ClassCounts]
    disagreements: list[Disagreement]

    @property
    def only_a_right(self) -> list[Disagreement]:
        """The flips of which A alone is right."""
        return [
            disagreement
            for disagreement in self.disagreements
            if disagreement.a == disagreement.label
        ]

    @property
    def only_b_right(self) -> list[Disagreement]:
        """The flips of which B alone is right."""
        return [
            disagreement
            for disagreement in self.disagreements
            if disagreement.b == disagreement.label
        ]

    @property
    def both_wrong_apart(self) -> list[Disagreement]:
        """The flips of which neither is right."""
        return [
            disagreement
            for disagreement in self.disagreements
            if disagreement.label not in (disagreement.a, disagreement.b)
        ]

    @property
    def both_right(self) -> int:
        """Images that both have right."""
        return self.images - len(self.disagreements) - self.both_wrong_alike

    @property
    def headline(self) -> str:
        """The outcome in a few words."""
        if not self.images:
            return "There is no image that neither A nor B was trained on"
        on = f"on the same {self.images:,} image{'s' if self.images > 1 else ''}"
        if not self.better:
            return f"No evidence that A or B is better {on}"
        other = {"a": "B", "b": "A"}[self.better]
        return f"{self.better.upper()} is better than {other} {on}"

    @property
    def test(self) -> str:
        """What the paired test says, and what `retrain` would do."""
        ours, theirs = len(self.only_a_right), len(self.only_b_right)
        would = "would" if self.better == "a" else "would not"
        return (
            f"{ours + theirs:,} images tell them apart: {ours:,} that only A has right, "
            f"{theirs:,} that only B has. Were both equally good, each would be A's by the toss "
            f"of a coin, and A would have so many or more with p = {self.p_value:.2g} (exact "
            f"McNemar test, one-sided; for B p = {self.p_value_of_b:.2g}). At most {self.alpha} is "
            f"evidence: retrain {would} let A take the place of B."
        )

    @property
    def aside(self) -> list[str]:
        """What was not compared, a sentence each."""
        return [
            *_counted(self.not_compared, "of a class that B does not know"),
            *_counted(self.gone, "gone, or changed since the training"),
            *([f"Only A knows {', '.join(self.only_a_knows)}."] if self.only_a_knows else []),
            *([f"Only B knows {', '.join(self.only_b_knows)}."] if self.only_b_knows else []),
        ]

    def changes(self) -> list[tuple[str, str, str, int]]:
        """What an image is, what A and what B call it, and how many such; most first."""
        counts: dict[tuple[str, str, str], int] = {}
        for disagreement in self.disagreements:
            key = disagreement.label, disagreement.a, disagreement.b
            counts[key] = counts.get(key, 0) + 1
        order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(*key, count) for key, count in order]


def _counted(number: int, what: str) -> list[str]:
    if not number:
        return []
    return [f"{number:,} image{'s are' if number > 1 else ' is'} left aside: {what}."]


def comparison_report(comparison: Comparison, source: Storage) -> str:
    """The HTML page of a comparison, with pictures of its flips from the place of the images."""
    kinds = (
        ("only-a", "Only A has right", comparison.only_a_right),
        ("only-b", "Only B has right", comparison.only_b_right),
        ("neither", "Both wrong, differently", comparison.both_wrong_apart),
    )
    differing = sorted(comparison.classes, key=lambda row: -(row.only_a_right + row.only_b_right))
    changes = comparison.changes()
    return page("comparison.html").render(
        told=comparison,
        versions=[("A", comparison.a), ("B", comparison.b)],
        kinds=[
            (key, title, len(disagreements), _shown(disagreements, source))
            for key, title, disagreements in kinds
        ],
        classes=differing[:CLASSES],
        changes=changes[:CHANGES],
        more_changes=len(changes[CHANGES:]),
        more_classes=len(differing[CLASSES:]),
    )


def _by_turns(disagreements: list[Disagreement]) -> list[Disagreement]:
    """The flips, of each kind (what it is and what both call it) one after another, and again."""
    kinds: dict[tuple[str, str, str], list[Disagreement]] = {}
    for disagreement in disagreements:
        kinds.setdefault((disagreement.label, disagreement.a, disagreement.b), []).append(
            disagreement
        )
    rounds = itertools.zip_longest(*sorted(kinds.values(), key=len, reverse=True))
    return [disagreement for one in rounds for disagreement in one if disagreement is not None]


def _shown(disagreements: list[Disagreement], source: Storage) -> list[tuple[Disagreement, bytes]]:
    """The first flips of each kind that have a picture still, with it."""
    shown: list[tuple[Disagreement, bytes]] = []
    for disagreement in _by_turns(disagreements):
        if len(shown) == SAMPLES:
            break
        if picture := thumbnail(source, disagreement.path):
            shown.append((disagreement, picture))
    return shown
