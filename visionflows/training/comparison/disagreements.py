"""Disagreements between two model versions: the images that they label differently."""

from typing import Any

from visionflows.datasets.fetch import find_dataset
from visionflows.errors import ModelError, StorageError
from visionflows.models.artifact import read_info
from visionflows.models.registry import find_model
from visionflows.reports.comparison import Comparison
from visionflows.training.comparison.paired_predictions import pair_predictions


def compare_versions(a: str, b: str, store: str, data: str = "") -> Comparison:
    """Compare two versions on the images of A's dataset that neither was trained on.

    A takes the role of `retrain`'s candidate, B that of production. `data` is the location of the
    dataset if it is no longer in the store or has moved. Raises StorageError if its images are
    gone, and ModelError if no image can be compared.
    """
    folder = data or dataset_folder(a, store)
    found = pair_predictions(a, b, folder, store)
    if not found.images and found.gone:
        raise StorageError(
            f"{folder}: has none of the {found.gone} images of {found.a.name} unchanged; "
            "name their location with --data"
        )
    if not found.images:
        raise ModelError(
            f"{found.a.name} and {found.b.name}: no image of the first one's dataset is new to "
            "both, and of a class that both know; try them the other way round"
        )
    return found


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


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison for JSON: counts, the test, the classes, every disagreement."""
    counts = ("images", "a_errors", "b_errors", "both_right", "both_wrong_alike")
    test = ("p_value", "p_value_of_b", "alpha", "not_compared", "gone")
    return {
        "a": comparison.a.name,
        "b": comparison.b.name,
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
