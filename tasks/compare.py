"""Whether a new model is better than the one in production, on images that neither learnt from.

    from tasks.compare import compare
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

from tasks.bundle import Model, find, load
from tasks.engine import Engine, EngineSettings
from tasks.storage import LocalPlace, name_of

log = logging.getLogger("visionflows.compare")


def compare(
    candidate: str,
    production: str,
    folder: str | Path,
    store: str | Path,
    settings: EngineSettings | None = None,
) -> dict:
    """What says whether the candidate is better: fewer wrong labels on the same images.

    Keys: images; errors of candidate and of production; only_candidate_right and
    only_production_right (images that one has right and the other wrong); better; and why, in a
    sentence. `folder` holds the images of the candidate's dataset. An image that cannot be
    opened any more counts for neither. Raises ModelError.
    """
    settings = settings or EngineSettings()
    new, old = load(find(candidate, store)), load(find(production, store))
    expected = _unseen(new, old)
    right = [_right(Engine(model, settings), folder, expected) for model in (new, old)]
    both = [(right[0][name], right[1][name]) for name in right[0] if name in right[1]]
    result = {
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
    paths, size, classes = list(expected), engine.batch_size, engine.model.classes
    batches = (
        [name_of(path) for path in paths[at : at + size]] for at in range(0, len(paths), size)
    )
    rows = (row for batch in engine.stream(LocalPlace(Path(folder)), batches) for row in batch)
    return {
        path: classes[int(row.probabilities.argmax())] == expected[path]
        for path, row in zip(paths, rows, strict=True)
        if row.status == "ok"
    }


def _why(result: dict) -> str:
    if not result["images"]:
        return "there is no validation image that production has not learnt from"
    return (
        f"{result['candidate_errors']} wrong against {result['production_errors']} on the same "
        f"{result['images']} images, which neither was trained on"
    )
