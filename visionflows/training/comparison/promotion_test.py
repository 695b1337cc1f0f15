"""Whether a new model is better than the one in production, on images that neither learnt from.

    from visionflows.training.comparison.promotion_test import run_promotion_test
    run_promotion_test("pets@latest", "pets@production", "store/datasets/pets-5c1a3d0f", "store")["better"]

Both label the same images now: visionflows.training.comparison.paired_predictions says which. Whether the difference is
more than luck is decided by McNemar's test (Q. McNemar, Psychometrika 12, 1947), one-sided and
exact: if both models were equally good, each image that only one of them has right would be the
candidate's by the toss of a coin.
"""

import itertools
import logging
from pathlib import Path
from typing import Any

from visionflows.datasets.format_names import format_names
from visionflows.inference import EngineSettings
from visionflows.storage import open_storage
from visionflows.training.comparison.paired_predictions import PairedPredictions, pair_predictions

log = logging.getLogger("visionflows.compare")

ALPHA = 0.05  # how often chance alone may promote a candidate that is no better


def decide_promotion(
    candidate: str, production: str, folder: str | Path, store: str | Path
) -> dict[str, Any]:
    """What `compare` says of the candidate; better by itself where there is no production yet."""
    name, _, alias = production.partition("@")
    if not open_storage(store).exists(f"models/{name}/aliases/{alias}"):
        return {"better": True, "why": f"there is no {production} yet"}
    return run_promotion_test(candidate, production, folder, store)


def run_promotion_test(
    candidate: str,
    production: str,
    folder: str | Path,
    store: str | Path,
    settings: EngineSettings | None = None,
) -> dict[str, Any]:
    """What says whether the candidate is better: by McNemar's exact test on the same images.

    Keys: candidate and production (as name@version); images; errors of candidate and of production;
    only_candidate_right and only_production_right (images that one has right and the other wrong);
    p_value (that chance gives the candidate so many of those, or more) and alpha (what it may be);
    needed (of those, how many the candidate would have to have right for that); not_compared
    (images whose class one of the two does not know), gone (images that are there no more) and
    new_classes, lost_classes (those that only one knows); better; and why, in a sentence. `folder`
    holds the images of the candidate's dataset. Raises ModelError.
    """
    pairs = pair_predictions(candidate, production, folder, store, settings)
    result: dict[str, Any] = {
        "candidate": pairs.candidate.name,
        "production": pairs.production.name,
        **count_errors(pairs),
        "new_classes": pairs.new_classes,
        "lost_classes": pairs.lost_classes,
    }
    result |= mcnemar_test(result["only_candidate_right"], result["only_production_right"])
    result["why"] = _why(result)
    log.info("%s against %s: %s", pairs.candidate.name, pairs.production.name, result["why"])
    return result


def count_errors(pairs: PairedPredictions) -> dict[str, int]:
    """The images that both were asked about, and how many each has right and wrong."""
    right = [answer.right for answer in pairs.answers]
    return {
        "images": len(right),
        "candidate_errors": sum(not ours for ours, _ in right),
        "production_errors": sum(not theirs for _, theirs in right),
        "only_candidate_right": right.count((True, False)),
        "only_production_right": right.count((False, True)),
        "not_compared": pairs.not_compared,
        "gone": pairs.gone,
    }


def mcnemar_test(candidate: int, production: int) -> dict[str, Any]:
    """The exact one-sided McNemar test of the images that only one of the two has right.

    Keys: p_value, alpha, better, and needed: how many the candidate would have to have right alone,
    against as many for production, to be better.
    """
    p_value = _chance(candidate, production)
    enough = (least for least in itertools.count(production) if _chance(least, production) <= ALPHA)
    better = p_value <= ALPHA
    return {"p_value": p_value, "alpha": ALPHA, "needed": next(enough), "better": better}


def _chance(candidate: int, production: int) -> float:
    """P(X >= candidate), X the heads of as many tosses as there are images that tell them apart."""
    from scipy.stats import binom

    return float(binom.sf(candidate - 1, candidate + production, 0.5))


def _why(result: dict[str, Any]) -> str:
    return "; ".join([_outcome(result), *_apart(result)])


def _outcome(result: dict[str, Any]) -> str:
    if not result["images"]:
        return "there is no validation image that production has not learnt from"
    ours, theirs = result["only_candidate_right"], result["only_production_right"]
    told = (
        f"{result['candidate_errors']} wrong against {result['production_errors']} on the same "
        f"{result['images']} images, which neither was trained on: {ours} that only the candidate "
        f"has right, {theirs} that only production has (exact McNemar test, one-sided: "
        f"p = {result['p_value']:.2g}"
    )
    if result["better"]:
        return f"{told}, at most {ALPHA} needed)"
    return (
        f"{told}, more than {ALPHA}: no evidence that it is better; against {theirs} the "
        f"candidate would need {result['needed']}, {result['needed'] + theirs} images in all "
        "on which they differ)"
    )


def _apart(result: dict[str, Any]) -> list[str]:
    """What the two cannot be compared on."""
    told = []
    if result["new_classes"]:
        told.append(f"the candidate also knows {format_names(result['new_classes'])}")
    if result["lost_classes"]:
        told.append(f"the candidate does not know {format_names(result['lost_classes'])}")
    if result["not_compared"]:
        told.append(f"{result['not_compared']} images of classes that production does not know")
    if result["gone"]:
        told.append(f"{result['gone']} images that are gone or changed since the training")
    return told
