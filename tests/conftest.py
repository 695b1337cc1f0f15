"""Shared fixtures: generated images, trained models, servers, and the real photos if present."""

import dataclasses
import io
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# With several pytest-xdist workers each process uses one core; torch and numpy read this once.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from s3_server import S3Server, environment, moto, rclone

if TYPE_CHECKING:
    import pandas as pd

    from visionflows.models import artifact

os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
# All servers of the tests run on this machine, so proxies of the environment are removed. Tests of
# proxies set their own.
for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[variable]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def picture(seed: int = 0, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """An image of smooth colours, with an edge that shows its orientation."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    phase = rng.uniform(0, 6.28, 3)
    channels = [127 + 90 * np.sin(x / 7 + phase[c]) * np.cos(y / 9 + phase[c]) for c in range(3)]
    array = np.stack(channels, -1).clip(0, 255).astype(np.uint8)
    array[: max(height // 4, 1)] = rng.integers(0, 255, 3)
    return Image.fromarray(array).convert(mode)


def encoded(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    """The bytes of a file that holds `image`."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos; skips the test if it is not beside the clone."""
    if not (SHARED_DATA / "cats-dogs.tgz").exists():
        pytest.skip("the real photos (../shared/data) are not beside this clone")
    return SHARED_DATA


# Enough to learn the shapes; in float32, which is the same on every processor.
LEARNING = {"epochs": 30, "lr": 1e-2, "batch_size": 16, "precision": "float32"}
# timm's own network for tests: 0.4 million weights, so that loading one costs a fifth of resnet18.
SMALL = {"architecture": "test_resnet", "pretrained": "none", "image_size": 32, "workers": 0}
CLASSES = ("circle", "square", "stripes")


def shape(kind: str, seed: int, size: int = 40) -> Image.Image:
    """A noisy image of one of CLASSES, different for every seed."""
    rng = np.random.default_rng([CLASSES.index(kind), seed])
    y, x = np.mgrid[0:size, 0:size] - size // 2 + rng.integers(-4, 5, (2, 1, 1))
    radius = rng.integers(size // 5, size // 3)
    inside = {
        "circle": x**2 + y**2 < radius**2,
        "square": (abs(x) < radius) & (abs(y) < radius),
        "stripes": (x // 4) % 2 == 0,
    }[kind]
    colours = rng.integers(0, 110, 3), rng.integers(140, 250, 3)
    array = np.where(inside[..., None], *colours) + rng.integers(-5, 6, (size, size, 3))
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))


def write_oblong(folder: Path) -> Path:
    """24 shapes in class folders, wider than high, so that a crop shows its position."""
    for number in range(24):
        kind = CLASSES[number % 3]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        shape(kind, number).crop((0, 0, 40, 28)).save(folder / kind / f"{number}.png")
    return folder


def write_shapes(folder: Path, each: int, first_seed: int = 0) -> Path:
    """`each` images of every class in <folder>/<class>/<seed>.png."""
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for seed in range(first_seed, first_seed + each):
            shape(kind, seed).save(folder / kind / f"{seed:04d}.png")
    return folder


@dataclasses.dataclass(frozen=True)
class Trained:
    """A published model of the shapes, with its dataset and training record."""

    store: Path
    dataset: Path
    table: "pd.DataFrame"
    record: dict
    metrics: dict
    storage: str

    @property
    def export(self) -> Path:
        return Path(self.storage) / "export.pkl"


def shared_by_workers(tmp_path_factory, name: str, make: Callable[[Path], Any]) -> Any:
    """The result of `make`, computed once and shared by the workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with FileLock(root / f"{name}.lock"):
        result = root / f"{name}.pickle"
        if not result.exists():
            (root / name).mkdir()
            result.write_bytes(pickle.dumps(make(root / name)))
        return pickle.loads(result.read_bytes())


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """A small network, trained on generated shapes and published as `shapes`."""
    return shared_by_workers(tmp_path_factory, "trained", train_shapes)


def train_shapes(root: Path) -> Trained:
    """Train a network on shapes and publish it in a store below `root`."""
    from model_infos import model_info

    from visionflows.datasets.file_table import build_table
    from visionflows.models import registry
    from visionflows.models.artifact import Model
    from visionflows.storage.local import LocalStorage
    from visionflows.training.evidence.evaluate import evaluate_checkpoint
    from visionflows.training.evidence.onnx_export import export_onnx
    from visionflows.training.fine_tune import fine_tune
    from visionflows.training.settings import TrainSettings

    dataset = write_shapes(root / "shapes", each=24)
    table = build_table(dataset, "folder", valid_pct=0.25)
    settings = TrainSettings(**SMALL, **LEARNING)
    checkpoint = root / "checkpoint"
    record = fine_tune(table, dataset, checkpoint, settings)
    metrics = evaluate_checkpoint(table, dataset, checkpoint, export_fastai=True)
    info = model_info(
        name="shapes",
        version=registry.new_version(),
        architecture=SMALL["architecture"],
        classes=record["classes"],
        normalise=record["normalise"],
        metrics={key: metrics[key] for key in ("error_rate", "accuracy", "by_class")},
    )
    info = info.updated(onnx=export_onnx(Model(LocalStorage(checkpoint), info)))
    storage = registry.publish(checkpoint, root / "store", info, table)
    return Trained(root / "store", dataset, table, record, metrics, storage)


@pytest.fixture(scope="session")
def outlier_store(trained, tmp_path_factory) -> Path:
    """A store with the same network as `outlier-model`, which flags some images as outliers."""
    from visionflows.datasets.file_table import build_table
    from visionflows.models import registry
    from visionflows.models.artifact import Model, load_model
    from visionflows.storage.local import LocalStorage
    from visionflows.training.evidence.outlier_detector import fit_outlier_detector

    root = tmp_path_factory.mktemp("outlier-model")
    dataset = write_shapes(root / "shapes", each=90, first_seed=5000)
    table = build_table(dataset, "folder", valid_pct=0.5)
    checkpoint = Path(shutil.copytree(trained.storage, root / "checkpoint"))
    info = load_model(registry.find_model("shapes", trained.store)).info
    info = info.model_copy(update={"name": "outlier-model", "files": {}})
    found = fit_outlier_detector(Model(LocalStorage(checkpoint), info), table, dataset)
    # Such a small network does not separate noise from shapes: a lower threshold flags some images.
    info = info.updated(outliers=found | {"threshold": 0.85 * found["threshold"]})
    registry.publish(checkpoint, root / "store", info, table)
    return root / "store"


@pytest.fixture
def checkpoint(trained, tmp_path) -> Path:
    """A copy of the checkpoint of `trained`, after evaluate and export."""
    return Path(shutil.copytree(trained.storage, tmp_path / "checkpoint"))


@pytest.fixture
def evaluated(trained, checkpoint) -> "artifact.Model":
    """The same checkpoint as a model."""
    from visionflows.models.artifact import Model, load_model
    from visionflows.models.registry import find_model
    from visionflows.storage.local import LocalStorage

    info = load_model(find_model("shapes", trained.store)).info
    return Model(LocalStorage(checkpoint), info)


@pytest.fixture(scope="session")
def inbox(tmp_path_factory) -> Path:
    """90 valid images of several sizes and formats, in folders."""
    folder = write_shapes(tmp_path_factory.mktemp("in") / "inbox", each=25, first_seed=1000)
    for number in range(15):
        size = (30 + 17 * number, 200 - 11 * number)
        name = f"odd/{number}.{('jpg', 'PNG', 'webp', 'bmp', 'tiff')[number % 5]}"
        (folder / "odd").mkdir(exist_ok=True)
        picture(number, size).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def prefect_server():
    """A temporary Prefect server for the test session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> Iterator[S3Server]:
    """An S3 server whose buckets are the folders of this test session."""
    folder = tmp_path_factory.mktemp("buckets", numbered=False)
    with rclone(folder, folder.parent / "rclone.log") as server:
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path) -> S3Server:
    """The S3 server, configured for boto3; models are cached in the test's folder."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "cache"))
    return s3_server


@pytest.fixture
def bucket(s3, tmp_path):
    """The test's folder as a storage in the S3 server."""
    from visionflows.storage import open_storage

    return open_storage(s3.uri(tmp_path))


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory) -> Iterator[str]:
    """The URL of a server that supports conditional requests and every key."""
    with moto(tmp_path_factory.mktemp("moto") / "log") as url:
        yield url


@pytest.fixture
def strict(moto_url, monkeypatch, tmp_path):
    """A new bucket on the server that supports conditional requests."""
    from visionflows.storage import open_storage
    from visionflows.storage.s3.client import call

    for name, value in environment(moto_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "cache"))
    name = f"b-{time.time_ns()}"
    call("create_bucket", name)
    return open_storage(f"s3://{name}/in")


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.slow)])
def where(request) -> Callable[[Path], str]:
    """The location of a path, once on the disk and once in S3."""
    return str if request.param == "disk" else request.getfixturevalue("s3").uri
