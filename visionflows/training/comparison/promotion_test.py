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
from visionflows.storage import open_storage
from visionflows.training.comparison.paired_predictions import PairedPredictions, pair_predictions

log = logging.getLogger("visionflows.compare")

ALPHA = 0.05  # probability of promoting a candidate that is no better


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

    Keys of the result: candidate and production (as name@version), those of `count_errors` and of
    `mcnemar_test`, new_classes and lost_classes (known to the candidate only, to production only),
    and why (a sentence). Raises ModelError.
    """
    predictions = pair_predictions(candidate, production, folder, store)
    counts = count_errors(predictions)
    result: dict[str, Any] = {
        "candidate": predictions.candidate.name,
        "production": predictions.production.name,
        **counts,
        "new_classes": predictions.new_classes,
        "lost_classes": predictions.lost_classes,
        **mcnemar_test(counts["only_candidate_right"], counts["only_production_right"]),
    }
    result["why"] = "; ".join([_outcome(result), *_limits(result)])
    log.info("%s against %s: %s", result["candidate"], result["production"], result["why"])
    return result


def count_errors(predictions: PairedPredictions) -> dict[str, int]:
    """Return how many images were compared, and how many each model has right and wrong.

    not_compared counts images of classes that production does not know; gone counts images that
    are missing or have changed.
    """
    candidate, production = predictions.candidate_is_right, predictions.production_is_right
    return {
        "images": len(predictions.rows),
        "candidate_errors": int((~candidate).sum()),
        "production_errors": int((~production).sum()),
        "only_candidate_right": int((candidate & ~production).sum()),
        "only_production_right": int((production & ~candidate).sum()),
        "not_compared": predictions.not_compared,
        "gone": predictions.gone,
    }


def mcnemar_test(candidate: int, production: int) -> dict[str, Any]:
    """Return the exact one-sided McNemar test for the images that only one model has right.

    Keys: p_value, alpha, better, and needed: how many images only the candidate would need to have
    right, against as many of production's, to be better.
    """
    p_value = _p_value(candidate, production)
    enough = (
        count for count in itertools.count(production) if _p_value(count, production) <= ALPHA
    )
    better = p_value <= ALPHA
    return {"p_value": p_value, "alpha": ALPHA, "needed": next(enough), "better": better}


def _p_value(candidate: int, production: int) -> float:
    """Return P(X >= candidate) for X ~ Binomial(candidate + production, 0.5)."""
    from scipy.stats import binom

    return float(binom.sf(candidate - 1, candidate + production, 0.5))


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
        return f"{counts}, at most {ALPHA} needed)"
    return (
        f"{counts}, more than {ALPHA}: no evidence that it is better; against {production} the "
        f"candidate would need {result['needed']}, in all {result['needed'] + production} images "
        "on which they differ)"
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
