"""Versions of the model of the shapes that differ in what they say: other files, other classes."""

import hashlib
import json
import shutil
from pathlib import Path

from conftest import Trained


def another(trained: Trained, store: Path, version: str, **changes: str) -> str:
    """The trained model again as another version, some of its files' texts replaced."""
    target = store / "models/shapes" / version
    shutil.copytree(trained.storage, target)
    info = json.loads((target / "model.json").read_text()) | {"version": version}
    for name, text in changes.items():
        path = target / name.replace("_csv", ".csv")
        path.write_text(text)
        info["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (target / "model.json").write_text(json.dumps(info))
    return f"shapes@{version}"


def changed(store: Path, version: str, **keys: object) -> None:
    """Let the model.json of a version say something else."""
    path = store / "models/shapes" / version / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def renamed(store: Path, version: str, classes: list[str]) -> None:
    """Let a version call what it sees by other names."""
    changed(store, version, classes=classes)
