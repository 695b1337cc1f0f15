"""Versions of the shapes model that differ: other files, other classes."""

import hashlib
import json
import shutil
from pathlib import Path

from conftest import Trained


def another(trained: Trained, store: Path, version: str, **changes: str) -> str:
    """The trained model as another version, with replaced text in its files."""
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
    """Change the model.json of a version."""
    path = store / "models/shapes" / version / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def renamed(store: Path, version: str, classes: list[str]) -> None:
    """Rename the classes of a version."""
    changed(store, version, classes=classes)
