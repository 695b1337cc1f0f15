"""What the demo needs besides the flows: its settings, images held out, and who is right.

from visionflows.training.demo import DEMO_SETTINGS, held_out
inbox, expected = copy_validation_images("demo/store/models/digits/…", Path("demo"))
"""

import csv
import shutil
from pathlib import Path

from visionflows.errors import StorageError
from visionflows.models.artifact import load
from visionflows.storage.local import LocalStorage
from visionflows.training.settings import TrainSettings

# From scratch: a small image, a high learning rate, no flips (a mirrored 2 is no digit).
DEMO_SETTINGS = TrainSettings(
    architecture="resnet18",
    pretrained="none",
    image_size=32,
    epochs=8,
    lr=4e-3,
    augment=False,
)
MARK = ".visionflows-demo"  # what makes a folder ours to make anew


def clear_demo_folder(folder: Path) -> None:
    """Make the folder anew. Raises PlaceError where it holds what is not the demo's."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise StorageError(f"{folder}: holds files that are not the demo's; give another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def copy_validation_images(storage: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """The validation images in a folder, a broken one beside them; and the labels they have."""
    where = LocalStorage(Path(storage))
    dataset_name = load(where).info.dataset.name
    dataset = next((folder / "store" / "datasets").glob(f"{dataset_name}-*"))
    inbox, expected = folder / "inbox", {}
    inbox.mkdir()
    for row in csv.DictReader(where.read("files.csv").decode().splitlines()):
        if row["is_valid"] == "True":
            source = dataset / row["path"]
            shutil.copyfile(source, inbox / source.name)
            expected[source.name] = row["label"]
    whole = (inbox / min(expected)).read_bytes()
    (inbox / "broken.png").write_bytes(whole[: len(whole) // 2])
    return inbox, expected
