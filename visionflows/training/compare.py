"""Whether a new model is better than the one in production, on images that neither learnt from.

    from visionflows.training.compare import compare
    compare("pets@latest", "pets@production", "store/datasets/pets-5c1a3d0f", "store")["better"]

Published error rates may not be compared: each was measured on its own model's validation images,
and a dataset that grew is split anew. So both models label the same images now: the new model's
validation images, less those that the old one was trained on (told by their sha256).
"""

import csv
import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from visionflows.engine import Engine, EngineSettings, make_engine
from visionflows.model.bundle import Model, load
from visionflows.model.registry import find
from visionflows.places import place
from visionflows.places.local import LocalPlace
from visionflows.places.names import name_of

log = logging.getLogger("visionflows.compare")


def verdict(
    candidate: str, production: str, folder: str | Path, store: str | Path
) -> dict[str, Any]:
    """What `compare` says of the candidate; better by itself where there is no production yet."""
    name, _, alias = production.partition("@")
    if not place(store).exists(f"models/{name}/aliases/{alias}"):
        return {"better": True, "why": f"there is no {production} yet"}
    return compare(candidate, production, folder, store)


def compare(
    candidate: str,
    production: str,
    folder: str | Path,
    store: str | Path,
    settings: EngineSettings | None = None,
) -> dict[str, Any]:
    """What says whether the candidate is better: fewer wrong labels on the same images.

    Keys: images; errors of candidate and of production; only_candidate_right and
    only_production_right (images that one has right and the other wrong); better; and why, in a
    sentence. `folder` holds the images of the candidate's dataset. An image that cannot be
    opened any more counts for neither. Raises ModelError.
    """
    settings = settings or EngineSettings()
    new, old = load(find(candidate, store)), load(find(production, store))
    expected = _unseen(new, old)
    right = [_right(make_engine(model, settings), folder, expected) for model in (new, old)]
    both = [(right[0][name], right[1][name]) for name in right[0] if name in right[1]]
    result: dict[str, Any] = {
        "images": len(both),
        "candidate_errors": sum(not ours for ours, _ in both),
        "production_errors": sum(not theirs for _, theirs in both),
        "only_candidate_right": sum(ours and not theirs for ours, theirs in both),
        "only_production_right": sum(theirs and not ours for ours, theirs in both),
    }
    result["better"] = result["candidate_errors"] < result["production_errors"]
    result["why"] = _why(result)
    log.info("%s against %s: %s", new.name, old.name, result["why"])
    return result


def _unseen(new: Model, old: Model) -> dict[str, str]:
    """The labels, by path, of what the new model was validated on and the old did not learn."""
    learnt = {row["sha256"] for row in _files(old) if row["is_valid"] != "True"}
    rows = (row for row in _files(new) if row["is_valid"] == "True")
    return {row["path"]: row["label"] for row in rows if row["sha256"] not in learnt}


def _files(model: Model) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(model.place.read("files.csv").decode(), newline=""))


def _right(engine: Engine, folder: str | Path, expected: dict[str, str]) -> dict[str, bool]:
    """Whether the engine's model labels each image as expected, by path."""
    answers = engine.answers(LocalPlace(Path(folder)), [name_of(path) for path in expected])
    return {
        path: engine.model.classes[int(answers[name_of(path)].argmax())] == label
        for path, label in expected.items()
        if name_of(path) in answers
    }


def _why(result: dict[str, Any]) -> str:
    if not result["images"]:
        return "there is no validation image that production has not learnt from"
    return (
        f"{result['candidate_errors']} wrong against {result['production_errors']} on the same "
        f"{result['images']} images, which neither was trained on"
    )
