"""The label of a row as text, or its labels, with the confidence in them."""

from collections.abc import Sequence

from visionflows.evaluation.label_decisions import certainty
from visionflows.inference.decoding import Row
from visionflows.label_sets import join_labels


def label_and_confidence(row: Row, classes: Sequence[str]) -> tuple[str, float]:
    """The label of a row with probabilities, or its labels as one text, and the confidence."""
    values = row.probabilities
    assert values is not None
    if row.label < 0:
        return join_labels(classes[at] for at in row.labels), float(certainty(values[None])[0])
    return classes[row.label], float(values[row.label])
