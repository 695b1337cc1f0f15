"""Compare two versions on images that neither was trained on, and test whether one is better.

Published error rates are not comparable: each was measured on its own model's validation images,
and a dataset that grew is split again. Here both models score the candidate's validation images,
without those that production was trained on, those of groups that it was trained on, and those of
classes that only one of them knows.

McNemar's test (Q. McNemar, Psychometrika 12, 1947), one-sided and exact: if both models were
equally good, each image that only one of them has right would be the candidate's with
probability 0.5. Models for other metrics, and for several labels a photo, are compared by a
randomization test (visionflows.evaluation.paired_test).
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from visionflows.datasets.fetch import find_dataset
from visionflows.datasets.format_names import format_names
from visionflows.datasets.split import near_duplicate_ids, same_side_ids
from visionflows.errors import ModelError, StorageError
from visionflows.hashing import sha256_of
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.labels import label_and_confidence
from visionflows.label_sets import are_known
from visionflows.models.artifact import Model, load_model, read_files_csv, read_info
from visionflows.models.registry import find_model
from visionflows.reports.comparison import MCNEMAR_ALPHA, Comparison, mcnemar_test
from visionflows.storage import open_storage
from visionflows.storage.base import Storage
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.training.imported_images import images_folder

log = logging.getLogger("visionflows.compare")


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


def decide_promotion(
    candidate: str, production: str, folder: str | Path, store: str | Path
) -> dict[str, Any]:
    """Return the result of `run_promotion_test`; `better` if there is no production yet."""
    name, _, alias = production.partition("@")
    if not open_storage(store).exists(f"models/{name}/aliases/{alias}"):
        return {"better": True, "why": f"there is no {production} yet"}
    return run_promotion_test(candidate, production, folder, store)


def run_promotion_test(
    candidate: str, production: str, folder: str | Path, store: str | Path
) -> dict[str, Any]:
    """Compare two models on the images of the candidate's dataset in `folder`.

    Keys of the result: candidate and production (as name@version), counts of images (compared,
    errors of each, those that only one has right, not_compared because production does not know
    their class, same_group because production was trained on their group, gone), new_classes and
    lost_classes (known to the candidate only, to production only), p_value, alpha, needed, better,
    and why (a sentence). A candidate that was trained for another metric than the error rate is
    tested by it: then also metric, and the values of both. Raises ModelError.
    """
    found = pair_predictions(candidate, production, folder, store)
    only_production_right = len(found.only_b_right)
    result: dict[str, Any] = {
        "candidate": found.a.name,
        "production": found.b.name,
        "images": found.images,
        "candidate_errors": found.a_errors,
        "production_errors": found.b_errors,
        "only_candidate_right": len(found.only_a_right),
        "only_production_right": only_production_right,
        "not_compared": found.not_compared,
        "same_group": found.same_group,
        "gone": found.gone,
        "new_classes": found.only_a_knows,
        "lost_classes": found.only_b_knows,
        "p_value": found.p_value,
        "alpha": found.alpha,
        "needed": images_needed(only_production_right),
        "better": found.better == "a",
    }
    if found.metric != "error_rate" and found.images:
        values = {"candidate": found.test.candidate, "production": found.test.production}
        result |= {"metric": found.metric, **{f"{name}_metric": values[name] for name in values}}
    result["why"] = "; ".join([_outcome(result), *_limits(result)])
    log.info("%s against %s: %s", result["candidate"], result["production"], result["why"])
    return result


def images_needed(production: int) -> int:
    """Return how many images only the candidate must have right to be better.

    `production` is how many only production has right.
    """
    counts = itertools.count(production)
    return next(count for count in counts if mcnemar_test(count, production) <= MCNEMAR_ALPHA)


def _outcome(result: dict[str, Any]) -> str:
    if not result["images"]:
        return "there is no validation image that production was not trained on"
    if "metric" in result:
        return _metric_outcome(result)
    candidate, production = result["only_candidate_right"], result["only_production_right"]
    counts = (
        f"{result['candidate_errors']} errors against {result['production_errors']} on the same "
        f"{result['images']} images, which neither was trained on: only the candidate is right "
        f"about {candidate}, only production about {production} (exact McNemar test, one-sided: "
        f"p = {result['p_value']:.2g}"
    )
    if result["better"]:
        return f"{counts}, at most {MCNEMAR_ALPHA} needed)"
    needed = result["needed"]
    return (
        f"{counts}, more than {MCNEMAR_ALPHA}: no evidence that it is better; against "
        f"{production} the candidate would need {needed}, in all {needed + production} images on "
        "which they differ)"
    )


def _metric_outcome(result: dict[str, Any]) -> str:
    evidence = "at most" if result["better"] else "no evidence that it is better: more than"
    return (
        f"{result['metric'].replace('_', ' ')} {result['candidate_metric']:.4f} against "
        f"{result['production_metric']:.4f} on the same {result['images']} images, which neither "
        f"was trained on (paired randomization test, one-sided: p = {result['p_value']:.2g}, "
        f"{evidence} {result['alpha']})"
    )


def _limits(result: dict[str, Any]) -> list[str]:
    """Return what the two could not be compared on."""
    new, lost = (format_names(result[name]) for name in ("new_classes", "lost_classes"))
    limits = {
        "new_classes": f"the candidate also knows {new}",
        "lost_classes": f"the candidate does not know {lost}",
        "not_compared": f"{result['not_compared']} images of classes that production does not know",
        "same_group": f"{result['same_group']} images of groups that production was trained on",
        "gone": f"{result['gone']} images that are missing or changed since the training",
    }
    return [line for name, line in limits.items() if result[name]]


def pair_predictions(
    candidate: str, production: str, folder: str | Path, store: str | Path
) -> Comparison:
    """Return both models' predictions for the images in `folder` that neither was trained on.

    A is the candidate, B production. Copies and near-duplicates are one image. Left out are images
    that B was trained on in another form, and images of groups that it was trained on. Raises
    ModelError, and StorageError if there is no such folder.
    """
    a, b = load_model(find_model(candidate, store)), load_model(find_model(production, store))
    _check_same_kind(a, b)
    files, b_files = (pd.DataFrame(read_files_csv(each.files)) for each in (a, b))
    valid, b_valid = (each[each.is_valid == "True"] for each in (files, b_files))
    unseen = _without_near_duplicates(valid, b_files[b_files.is_valid != "True"])
    if a.info.split.group != b.info.split.group:  # the same name may be of another thing
        for each, table in (("a", files), ("b", b_files)):
            table["group"] = table.group.where(table.group == "", f"{each} " + table.group)
    new = _without_trained_groups(unseen, files, b_files)
    unseen, same_group = new.set_index("path"), len(unseen) - len(new)
    known = unseen[are_known(unseen.label, b.classes, b.info.multi_label)]
    source = open_storage(images_folder(folder, a.info.dataset.fingerprint, store))
    paths = [*_unchanged_paths(source, known.sha256.to_dict())] if len(known) else []
    rows = known.loc[paths, ["label"]]
    predicted = [_predict(model, source, paths) for model in (a, b)]
    for name, one in zip("ab", predicted, strict=True):
        columns = [name, f"{name}_probability"]
        rows = rows.join(one[["label", "probability"]].set_axis(columns, axis=1), how="inner")
    not_compared, gone = len(unseen) - len(known), len(known) - len(rows)
    same_images = {*valid.sha256} == {*b_valid.sha256}
    found = Comparison(a, b, source, rows, not_compared, gone, same_images, same_group)
    if not found.multi_label:
        return found
    of_a, of_b = (
        _scores(model, each.scores.loc[rows.index], found.all_classes)
        for model, each in zip((a, b), predicted, strict=True)
    )
    return dataclasses.replace(found, scores=(of_a, of_b))


def _check_same_kind(a: Model, b: Model) -> None:
    if a.info.multi_label != b.info.multi_label:
        several, one = (a.name, b.name) if a.info.multi_label else (b.name, a.name)
        raise ModelError(
            f"{several}: gives several labels a photo, {one} one: they cannot be compared; promote "
            f"by hand, with visionflows models promote {a.name}"
        )


def _scores(model: Model, scores: pd.Series, classes: list[str]) -> np.ndarray:
    """Return the probabilities (images, classes); 0 for classes that the model does not know."""
    found = np.zeros((len(scores), len(classes)), np.float32)
    at = [classes.index(name) for name in model.classes]
    for row, values in enumerate(scores):
        found[row, at] = values
    return found


def _without_near_duplicates(valid: pd.DataFrame, trained: pd.DataFrame) -> pd.DataFrame:
    """Return one image of each group of near-duplicates that no image was trained on."""
    unseen = valid[~valid.sha256.isin(trained.sha256)].drop_duplicates("sha256", keep="last")
    both = pd.concat([trained, unseen]).drop_duplicates("sha256")
    group_of = dict(zip(both.sha256, near_duplicate_ids(both), strict=True))
    groups, known = unseen.sha256.map(group_of), set(trained.sha256.map(group_of))
    return unseen[~groups.isin(known) & ~groups.duplicated(keep="last")]


def _without_trained_groups(
    unseen: pd.DataFrame, files: pd.DataFrame, b_files: pd.DataFrame
) -> pd.DataFrame:
    """Return the images whose group B was not trained on, by the groups of A and of B."""
    if not (files.group != "").any() and not (b_files.group != "").any():
        return unseen
    both = pd.concat([files, b_files], ignore_index=True)
    ids = dict(zip(both.sha256, same_side_ids(both), strict=True))
    trained = {*b_files.sha256[b_files.is_valid != "True"].map(ids)}
    return unseen[~unseen.sha256.map(ids).isin(trained)]


def _unchanged_paths(source: Storage, sha256s: dict[Any, str]) -> Iterator[str]:
    """Yield the paths of the files that still have their content, in the order of `source`."""
    entries = [entry for entry in source.walk() if encode_name(entry.name) in sha256s]
    for entry, data in zip(entries, source.read_many(entries), strict=True):
        path = encode_name(entry.name)
        if isinstance(data, bytes) and sha256_of(data) == sha256s[path]:
            yield path


def _predict(model: Model, source: Storage, paths: list[str]) -> pd.DataFrame:
    """Return label, probability and scores by path, without images that cannot be decoded.

    The scores are the probabilities of all classes, of a model of several labels.
    """
    names = [decode_name(path) for path in paths]
    found = make_engine(model, EngineSettings()).predict_rows(source, names) if names else ()
    decoded = [row for row in found if row.probabilities is not None]
    scores = [row.probabilities if model.info.multi_label else None for row in decoded]
    labels = (label_and_confidence(row, model.classes) for row in decoded)
    rows = [(*pair, one) for pair, one in zip(labels, scores, strict=True)]
    paths = [encode_name(row.name) for row in decoded]
    return pd.DataFrame(rows, paths, ["label", "probability", "scores"])
