"""Settings of the demo, and its inbox: validation images that the network has not seen."""

import shutil
from pathlib import Path

from visionflows.errors import StorageError
from visionflows.models.artifact import load_model, read_files_csv
from visionflows.storage.local import LocalStorage
from visionflows.training.settings import TrainSettings

# Random weights, small images, a high learning rate, no flips (a mirrored 2 is no digit).
DEMO_SETTINGS = TrainSettings(
    architecture="resnet18",
    pretrained="none",
    image_size=32,
    epochs=8,
    lr=4e-3,
    augment="none",
)
MARKER = ".visionflows-demo"  # a folder with this file may be deleted by the next demo


def clear_demo_folder(folder: Path) -> None:
    """Create the folder, or empty an earlier demo's.

    Raises StorageError if it holds other files.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise StorageError(f"{folder}: holds files that are not the demo's; give another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def copy_validation_images(artifact: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """Copy the validation images and a truncated one to <folder>/inbox.

    Returns that folder, and the labels by file name.
    """
    storage = LocalStorage(Path(artifact))
    name = load_model(storage).info.dataset.name
    dataset = next((folder / "store" / "datasets").glob(f"{name}-*"))
    inbox, labels = folder / "inbox", {}
    inbox.mkdir()
    for row in read_files_csv(storage):
        if row["is_valid"] == "True":
            source = dataset / row["path"]
            shutil.copyfile(source, inbox / source.name)
            labels[source.name] = row["label"]
    image = (inbox / min(labels)).read_bytes()
    (inbox / "broken.png").write_bytes(image[: len(image) // 2])
    return inbox, labels
