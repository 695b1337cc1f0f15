"""Test whether a new model is better than production, on images that neither was trained on.

McNemar's test (Q. McNemar, Psychometrika 12, 1947), one-sided and exact: if both models were
equally good, each image that only one of them has right would be the candidate's with
probability 0.5.
"""

import itertools
import logging
from pathlib import Path
from typing import Any

from visionflows.datasets.format_names import format_names
from visionflows.reports.comparison import Comparison, mcnemar_test
from visionflows.storage import open_storage
from visionflows.training.comparison.paired_predictions import pair_predictions

log = logging.getLogger("visionflows.compare")


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
    their class, gone), new_classes and lost_classes (known to the candidate only, to production
    only), p_value, alpha, needed, better, and why (a sentence). Raises ModelError.
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
        "gone": found.gone,
        "new_classes": found.only_a_knows,
        "lost_classes": found.only_b_knows,
        "p_value": found.p_value,
        "alpha": found.alpha,
        "needed": images_needed(only_production_right),
        "better": found.better == "a",
    }
    result["why"] = "; ".join([_outcome(result), *_limits(result)])
    log.info("%s against %s: %s", result["candidate"], result["production"], result["why"])
    return result


def images_needed(production: int) -> int:
    """Return how many images only the candidate must have right to be better.

    `production` is how many only production has right.
    """
    counts = itertools.count(production)
    return next(count for count in counts if mcnemar_test(count, production) <= Comparison.alpha)


def _outcome(result: dict[str, Any]) -> str:
    if not result["images"]:
        return "there is no validation image that production was not trained on"
    candidate, production = result["only_candidate_right"], result["only_production_right"]
    counts = (
        f"{result['candidate_errors']} errors against {result['production_errors']} on the same "
        f"{result['images']} images, which neither was trained on: only the candidate is right "
        f"about {candidate}, only production about {production} (exact McNemar test, one-sided: "
        f"p = {result['p_value']:.2g}"
    )
    if result["better"]:
        return f"{counts}, at most {Comparison.alpha} needed)"
    needed = result["needed"]
    return (
        f"{counts}, more than {Comparison.alpha}: no evidence that it is better; against "
        f"{production} the candidate would need {needed}, in all {needed + production} images on "
        "which they differ)"
    )


def _limits(result: dict[str, Any]) -> list[str]:
    """Return what the two could not be compared on."""
    lines = []
    if result["new_classes"]:
        lines.append(f"the candidate also knows {format_names(result['new_classes'])}")
    if result["lost_classes"]:
        lines.append(f"the candidate does not know {format_names(result['lost_classes'])}")
    if result["not_compared"]:
        lines.append(f"{result['not_compared']} images of classes that production does not know")
    if result["gone"]:
        lines.append(f"{result['gone']} images that are missing or changed since the training")
    return lines
