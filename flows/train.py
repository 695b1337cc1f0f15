"""The train flow: fetch -> table -> fine_tune -> evaluate -> publish.

visionflows train PETS --name pets --labels uppercase
python -c 'from flows.train import train; train("digits", "digits")'
"""

import tempfile
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from flows import steps
from flows.logs import to_prefect
from flows.notify import tell
from tasks import bundle, network, table
from tasks.learner import TrainSettings

DEFAULTS = TrainSettings()


def _name() -> str:
    return "train {name} from {dataset}".format(**flow_run.parameters)


@flow(
    name="train",
    flow_run_name=_name,
    description="Fine-tune an image classifier on a dataset and publish it as a model bundle.",
    validate_parameters=True,
    on_failure=[tell],
    on_crashed=[tell],
)
def train(
    dataset: str,
    name: str,
    labels: str = "folder",
    valid_pct: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    store: str = "",
    sha256: str = "",
    export_fastai: bool = False,
    settings: TrainSettings = DEFAULTS,
) -> str:
    """The place of the published bundle; `name` means it from now on.

    Raises a VisionflowsError, in one line; settings are checked before any work. The lines below
    are what the run form says.

    Args:
        dataset: A fastai name (PETS), an http(s):// or s3:// archive, an archive, a folder, or
            digits.
        name: What the model will be called: letters, digits, '.', '_' and '-'.
        labels: folder, uppercase, regex:PATTERN with one group, or csv:PLACE.
        valid_pct: Share of the images to validate on.
        store: Where runs keep what they make; empty for the worker's own.
        sha256: What the archive must be; empty to take it as it is.
        export_fastai: Also write export.pkl, for people who go on in fastai.
        settings: Advanced: the network, how long and how fast it learns, augmentation, seed.
    """
    to_prefect()
    store, settings = store or bundle.default_store(), settings or DEFAULTS
    bundle.check_name(name)
    table.parse_label_rule(labels)
    network.check_architecture(settings.architecture)
    data = steps.fetch_dataset(dataset, store, sha256=sha256 or None)
    files = steps.build_table(
        data.folder,
        labels,
        valid_pct=valid_pct,
        seed=settings.seed,
        max_pixels=settings.max_pixels,
    )
    with tempfile.TemporaryDirectory(prefix="visionflows-") as draft:
        draft = Path(draft)
        record = steps.fine_tune_network(files, data.folder, draft, settings)
        metrics = steps.evaluate_network(files, data.folder, draft, export_fastai)
        info = _info(name, labels, valid_pct, data, files, record, metrics)
        info["precision"]["agreement"] = steps.compare_precisions(draft, info, files, data.folder)
        return steps.publish_bundle(draft, store, info, files, record["summary"])


def _info(name, labels, valid_pct, data, files, record: dict, metrics: dict) -> dict:
    """model.json, but for what the bundle itself adds."""
    settings = record["settings"]
    usable = files[files.status == "ok"]
    valid = int(usable.is_valid.sum())
    return {
        "name": name,
        "version": bundle.new_version(),
        "architecture": settings["architecture"],
        "pretrained": settings["pretrained"],
        "classes": record["classes"],
        "image_size": settings["image_size"],
        "resize": settings["resize"],
        "exif": "applied",
        "normalise": record["normalise"],
        "labels": labels,
        "precision": {"trained": record["mixed_precision"]},
        "dataset": {
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "fingerprint": table.fingerprint(files),
            "images": len(files),
            "train": len(usable) - valid,
            "valid": valid,
            "skipped": len(files) - len(usable),
        },
        "split": {"seed": settings["seed"], "valid_pct": valid_pct},
        "training": {
            **{key: settings[key] for key in ("epochs", "augment", "keep", "patience")},
            **{key: value for key, value in record.items() if key not in _NOT_TRAINING},
        },
        "metrics": metrics,
        "versions": bundle.versions(),
        "notes": table.notes(files),
    }


_NOT_TRAINING = ("settings", "classes", "normalise", "summary")
