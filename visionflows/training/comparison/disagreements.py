"""Disagreements between two model versions: the images that they label differently."""

import importlib.util
from collections.abc import Iterator
from typing import Any

from visionflows.datasets.fetch import find_dataset
from visionflows.errors import ModelError, SettingsError, StorageError
from visionflows.models.artifact import read_info
from visionflows.models.registry import find_model
from visionflows.reports.comparison import ClassCounts, Comparison, Disagreement
from visionflows.storage.base import Storage
from visionflows.training.comparison.paired_predictions import PairedPredictions, pair_predictions
from visionflows.training.comparison.promotion_test import count_errors, mcnemar_test


def compare_versions(a: str, b: str, store: str, data: str = "") -> tuple[Comparison, Storage]:
    """Compare two versions on the images of A's dataset that neither was trained on.

    A takes the role of `retrain`'s candidate, B that of production. Returns the comparison and
    the storage of the images. `data` is the location of the dataset if it is no longer in the
    store or has moved. Raises StorageError if its images are gone, and ModelError if no image can
    be compared.
    """
    if importlib.util.find_spec("scipy") is None:
        raise SettingsError(
            "comparing needs scipy, not installed here; pip install 'visionflows[train]'"
        )
    folder = data or dataset_folder(a, store)
    predictions = pair_predictions(a, b, folder, store)
    candidate, production = predictions.candidate.name, predictions.production.name
    if predictions.rows.empty and predictions.gone:
        raise StorageError(
            f"{folder}: has none of the {predictions.gone} images of {candidate} unchanged; "
            "name their location with --data"
        )
    if predictions.rows.empty:
        raise ModelError(
            f"{candidate} and {production}: no image of the first one's dataset is new to both, "
            "and of a class that both know; try them the other way round"
        )
    return _comparison(predictions), predictions.source


def dataset_folder(model: str, store: str) -> str:
    """Return the folder of a model's dataset. Raises StorageError if it is gone."""
    storage = find_model(model, store)
    info = read_info(storage)
    dataset = info.dataset
    if not dataset.source:
        raise StorageError(
            f"{info.name}@{info.version}: does not name its dataset; name the location of its "
            "images with --data"
        )
    try:
        return str(find_dataset(dataset.name, dataset.source, dataset.sha256, store))
    except StorageError as error:
        raise StorageError(f"{error} with --data") from error


def _comparison(predictions: PairedPredictions) -> Comparison:
    counts = count_errors(predictions)
    only_a, only_b = counts["only_candidate_right"], counts["only_production_right"]
    a_test, b_test = mcnemar_test(only_a, only_b), mcnemar_test(only_b, only_a)
    rows = predictions.rows
    same_label = rows.candidate == rows.production
    disagreements = [Disagreement(*row) for row in rows[~same_label].itertuples()]
    return Comparison(
        a=predictions.candidate.info,
        b=predictions.production.info,
        a_location=str(predictions.candidate.storage),
        b_location=str(predictions.production.storage),
        images=len(rows),
        same_validation_images=predictions.same_validation_images,
        a_errors=counts["candidate_errors"],
        b_errors=counts["production_errors"],
        both_wrong_alike=int((same_label & (rows.candidate != rows.label)).sum()),
        p_value=a_test["p_value"],
        p_value_of_b=b_test["p_value"],
        alpha=a_test["alpha"],
        better="a" if a_test["better"] else "b" if b_test["better"] else "",
        not_compared=predictions.not_compared,
        gone=predictions.gone,
        only_a_knows=predictions.new_classes,
        only_b_knows=predictions.lost_classes,
        classes=[*_class_counts(predictions)],
        disagreements=sorted(disagreements, key=_most_confident_error_first),
    )


def _most_confident_error_first(row: Disagreement) -> tuple[float, str]:
    predictions = ((row.a, row.a_probability), (row.b, row.b_probability))
    wrong = [probability for label, probability in predictions if label != row.label]
    return -max(wrong), row.path


def _class_counts(predictions: PairedPredictions) -> Iterator[ClassCounts]:
    """Yield the counts of each class that was compared, in the order of the candidate's classes."""
    a, b = predictions.candidate_is_right, predictions.production_is_right
    for name in predictions.candidate.classes:
        of_class = predictions.rows.label == name
        if of_class.any():
            counts = (of_class, of_class & a, of_class & b, of_class & a & ~b, of_class & b & ~a)
            yield ClassCounts(name, *(int(rows.sum()) for rows in counts))


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison for JSON: counts, the test, the classes, every disagreement."""
    a, b = comparison.a, comparison.b
    counts = ("images", "a_errors", "b_errors", "both_right", "both_wrong_alike")
    test = ("p_value", "p_value_of_b", "alpha", "not_compared", "gone")
    return {
        "a": f"{a.name}@{a.version}",
        "b": f"{b.name}@{b.version}",
        **{name: getattr(comparison, name) for name in counts},
        "only_a_right": len(comparison.only_a_right),
        "only_b_right": len(comparison.only_b_right),
        "both_wrong_apart": len(comparison.both_wrong_apart),
        "better": comparison.better or None,
        **{name: getattr(comparison, name) for name in test},
        "only_a_knows": comparison.only_a_knows,
        "only_b_knows": comparison.only_b_knows,
        "classes": [row._asdict() for row in comparison.classes],
        "disagreements": [disagreement._asdict() for disagreement in comparison.disagreements],
    }
