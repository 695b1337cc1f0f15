"""What flips between two versions: the images that they label differently, and whose they are.

    from visionflows.training.comparison.disagreements import compare_versions
    comparison, images = compare_versions("pets@latest", "pets@production", "store")
    page = comparison_report(comparison, images)          # visionflows.reports.comparison

A is asked as `retrain` asks a candidate, and B as production: visionflows.training.comparison.promotion_test has the
test.
"""

import importlib.util
from collections.abc import Iterable
from typing import Any

from visionflows.datasets.fetch import find_dataset
from visionflows.errors import ModelError, SettingsError, StorageError
from visionflows.inference import EngineSettings
from visionflows.models.artifact import model_json, read_info
from visionflows.models.registry import find
from visionflows.reports.comparison import ClassCounts, Comparison, Disagreement
from visionflows.storage.base import Storage
from visionflows.training.comparison.paired_predictions import (
    PairedPrediction,
    PairedPredictions,
    pair_predictions,
)
from visionflows.training.comparison.promotion_test import count_errors, mcnemar_test


def compare_versions(
    a: str, b: str, store: str, data: str = "", settings: EngineSettings | None = None
) -> tuple[Comparison, Storage]:
    """Two versions on the images of A's dataset that neither was trained on; where those lie.

    `data` is the place of that dataset where it is no longer in the store, or has moved. Raises
    PlaceError where its images are gone, and ModelError where no image can be compare_versions.
    """
    if importlib.util.find_spec("scipy") is None:
        raise SettingsError(
            "comparing needs scipy, which this machine has not; pip install 'visionflows[train]'"
        )
    where = data or dataset_folder(a, store)
    pairs = pair_predictions(a, b, where, store, settings)
    if not pairs.answers and pairs.gone:
        raise StorageError(
            f"{where}: has none of the {pairs.gone} images of {pairs.candidate.name} as they were; "
            "name their place with --data"
        )
    if not pairs.answers:
        raise ModelError(
            f"{pairs.candidate.name} and {pairs.production.name}: no image of the first one's "
            "dataset is new to both, and of a class that both know; try them the other way round"
        )
    return _comparison(pairs), pairs.source


def dataset_folder(model: str, store: str) -> str:
    """The folder of the dataset that a model was trained on. Raises PlaceError if it is gone."""
    where = find(model, store)
    info = read_info(where, model_json(where))
    dataset = info.dataset
    if not dataset.source:
        raise StorageError(
            f"{info.name}@{info.version}: does not say what it was trained on; name the place of "
            "its images with --data"
        )
    try:
        return str(find_dataset(dataset.name, dataset.source, dataset.sha256, store))
    except StorageError as error:
        raise StorageError(f"{error} with --data") from error


def _comparison(pairs: PairedPredictions) -> Comparison:
    counts = count_errors(pairs)
    ours, theirs = counts["only_candidate_right"], counts["only_production_right"]
    a, b = mcnemar_test(ours, theirs), mcnemar_test(theirs, ours)
    answers = pairs.answers
    return Comparison(
        a=pairs.candidate.info,
        b=pairs.production.info,
        images=len(answers),
        a_errors=counts["candidate_errors"],
        b_errors=counts["production_errors"],
        both_wrong_alike=sum(_same(answer) and not any(answer.right) for answer in answers),
        p_value=a["p_value"],
        p_value_of_b=b["p_value"],
        alpha=a["alpha"],
        better="a" if a["better"] else "b" if b["better"] else "",
        not_compared=pairs.not_compared,
        gone=pairs.gone,
        only_a_knows=pairs.new_classes,
        only_b_knows=pairs.lost_classes,
        classes=[*_classes(pairs)],
        disagreements=sorted(map(_flip, filter(_differ, answers)), key=_surest_wrong_first),
    )


def _same(answer: PairedPrediction) -> bool:
    return answer.candidate.label == answer.production.label


def _differ(answer: PairedPrediction) -> bool:
    return not _same(answer)


def _flip(answer: PairedPrediction) -> Disagreement:
    return Disagreement(answer.path, answer.label, *answer.candidate, *answer.production)


def _surest_wrong_first(disagreement: Disagreement) -> tuple[float, str]:
    wrong = [
        probability
        for said, probability in (
            (disagreement.a, disagreement.a_probability),
            (disagreement.b, disagreement.b_probability),
        )
        if said != disagreement.label
    ]
    return -max(wrong), disagreement.path


def _classes(pairs: PairedPredictions) -> Iterable[ClassCounts]:
    """The counts of each class that was compare_versions, in the order of the candidate's classes."""
    right: dict[str, list[tuple[bool, bool]]] = {}
    for answer in pairs.answers:
        right.setdefault(answer.label, []).append(answer.right)
    for name in filter(right.__contains__, pairs.candidate.classes):
        mine = right[name]
        sides = sum(ours for ours, _ in mine), sum(theirs for _, theirs in mine)
        yield ClassCounts(
            name, len(mine), *sides, mine.count((True, False)), mine.count((False, True))
        )


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """The same for machines: counts, the test, a dict a class, and one for every flip."""
    a, b = comparison.a, comparison.b
    figures = ("images", "a_errors", "b_errors", "both_right", "both_wrong_alike")
    test = ("p_value", "p_value_of_b", "alpha", "not_compared", "gone")
    return {
        "a": f"{a.name}@{a.version}",
        "b": f"{b.name}@{b.version}",
        **{name: getattr(comparison, name) for name in figures},
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
