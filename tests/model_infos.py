"""A valid model.json for tests, with default fields."""

from visionflows.models.schema import ModelInfo

REQUIRED = {
    "schema_version": 1,
    "name": "any",
    "version": "1",
    "architecture": "resnet18",
    "pretrained": "none",
    "classes": ["a", "b"],
    "image_size": 32,
    "resize": "crop",
    "decode": "full",
    "normalise": {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
    "labels": "folder",
    "dataset": {
        **{"name": "shapes", "source": "shapes", "sha256": None, "fingerprint": "0" * 64},
        **{"images": 72, "train": 54, "valid": 18, "skipped": 0},
    },
    "split": {"seed": 42, "valid_pct": 0.25},
    "training": {
        **{"epochs": 1, "augment": "none", "keep": "best", "patience": 0, "base_lr": 0.002},
        **{"freeze_epochs": 1, "batch_size": 16, "device": "cpu", "mixed_precision": "none"},
        **{"history": (), "seconds": 1.0},
    },
    "metrics": {"error_rate": 0.5, "accuracy": 0.5, "by_class": ()},
    "versions": {},
}


def model_info(**fields: object) -> ModelInfo:
    """A model.json of a checkpoint with these fields."""
    return ModelInfo.model_validate(REQUIRED | fields, strict=False)
