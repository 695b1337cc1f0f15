"""The scoring engine: files in, one row for each out, in order.

from visionflows.inference import make_engine
engine = make_engine(load_model(find_model("pets", "store")), EngineSettings())
for rows in engine.predict_batches(open_storage("inbox"), [["1.jpg", "2.jpg"]]):
    print(rows)
"""

import abc
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from visionflows.errors import ModelError
from visionflows.evaluation.calibration import calibrate
from visionflows.evaluation.label_decisions import calibrate_each, has_labels
from visionflows.evaluation.outliers import read_detector
from visionflows.images.decode_options import Decoding
from visionflows.images.memory_limits import MAX_PIXELS, MemoryLimits
from visionflows.images.resize import resize_image
from visionflows.inference.decoding import Batch, DecodedBatch, Decoder, Row
from visionflows.inference.precision_policy import choose_precision
from visionflows.models.artifact import Model, read_selfcheck
from visionflows.models.metrics_schema import Calibration
from visionflows.storage.base import Storage
from visionflows.system import engine_versions
from visionflows.versioned_json import JsonObject

log = logging.getLogger("visionflows.inference")

# Only rounding: other kernels, batch norm folded. Seen: 2e-6 on CPUs, 1e-5 on GPUs.
FLOAT32_TOLERANCE = 1e-4
# Differences above these mean other weights or versions; smaller ones are rounding. A bfloat16 has
# 8 bits of precision, about 0.02 after a resnet34; int8 has steps that its calibration chose.
TOLERANCES = {"float32": FLOAT32_TOLERANCE, "bfloat16": 0.1, "int8": 0.3}


class EngineSettings(BaseModel):
    """How to score. `visionflows.scoring.job` says which settings start another run.

    Precision, batch size, device and engine change rows by rounding only. `max_pixels` decides
    which files are `too_large`, `decode` how large photos are decoded, and `exif` and
    `find_duplicates` add columns. The other settings change only the speed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    precision: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """`auto`: the fastest whose labels agree with float32, as the model records."""
    batch_size: int | None = Field(None, ge=1, le=8192)
    """Images in a forward pass; default 16, on a GPU 256."""
    workers: int | None = Field(None, ge=1, le=256)
    """Decoders (GPU) or streams (CPU); by default as many as memory allows."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU if there is one."""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    """`auto`: torch on a GPU, OpenVINO on a CPU if the model supports it."""
    compile: bool = False
    """Run torch.compile: the start is slow, the run is faster."""
    max_pixels: int = Field(
        MAX_PIXELS,
        ge=1,
        description="Images with more pixels, or too large for the memory, get the status "
        "`too_large`. A large JPEG is decoded downscaled first, unless `decode` is full.",
    )
    decode: Decoding = "auto"
    """Decode large photos `scaled` or `full`; `auto`: as in training."""
    exif: bool = False
    """Add columns of EXIF data: time, camera, position and size of the photo."""
    raw: bool = False
    """Write the network's probabilities, uncalibrated."""
    find_duplicates: bool = Field(
        False,
        description="Add columns with the training image, and the earlier file of this run, that "
        "are the same photo: the same bytes, or resized, recompressed or cropped.",
    )


class Backend(JsonObject):
    """What computed a row. Rows of two backends may differ in their last digits.

    `device` is a name without counts, such as `cpu: AMD EPYC 9354`. `kernel` names whose
    convolutions ran, and `versions` has the version of each library that decodes or computes.
    """

    device: str
    precision: str
    kernel: str
    versions: dict[str, str]

    @property
    def description(self) -> str:
        """The backend on one line."""
        versions = " ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.device}, {self.precision}, {self.kernel}, {versions}"


class EngineInfo(NamedTuple):
    """An engine's properties; an engine on this machine and the actors of a cluster both have them.

    `device_name` is the device with its counts, such as `cpu: AMD EPYC 9354, 2 cores`. Files beyond
    `limits` are `too_large`; the limits in bytes depend on the machine's memory.
    `overrides_decoding` is true if large images are decoded otherwise than in training.
    """

    backend: Backend
    device_name: str
    batch_size: int
    limits: dict[str, int]
    overrides_decoding: bool


class Outputs(NamedTuple):
    """What a network returns for n images, float32.

    `probabilities` are (n, classes). `features` (n, features) are the pooled inputs of its head;
    None if they are not needed.
    """

    probabilities: np.ndarray
    features: np.ndarray | None = None

    def head(self, count: int) -> "Outputs":
        """The outputs of the first images."""
        return Outputs(*(None if array is None else array[:count] for array in self))  # type: ignore[arg-type]


class Engine(abc.ABC):
    """A model that turns files into rows; each subclass reads, decodes and computes in parallel.

    It computes `batch_size` images at once, and decodes `workers` files at once. `seconds` by
    stage and `forwarded` images are counted for run.json. With `features`, rows have them.
    """

    features = False

    timing_batches: int  # enough of them to estimate the speed
    kernels: Mapping[str, str]  # native kernels of faster precisions, such as `openvino amx_bf16`
    locks: Any = threading  # the module of the decoders' locks: threading or multiprocessing
    device_name: str  # such as `cpu: AMD EPYC 9354, 2 cores`
    kernel: str  # whose convolutions run: others round otherwise
    libraries: tuple[str, ...]  # that compute

    def __init__(self, model: Model, settings: EngineSettings, batch_size: int, workers: int):
        self.model, self.settings = model, settings
        self.precision = choose_precision(model.info, settings.precision, self.kernels)
        self.batch_size = settings.batch_size or batch_size
        self.workers = settings.workers or workers
        memory = MemoryLimits(settings.max_pixels, self.workers, self.locks)
        self.decoder = Decoder(
            batch_size=self.batch_size,
            side=model.info.image_size,
            resize=model.info.resize,
            memory=memory,
            decode_options=model.info.decode_options(settings.decode),
            exif=settings.exif,
            find_duplicates=settings.find_duplicates,
        )
        self.outlier_detector = read_detector(model)
        self.seconds = dict.fromkeys(("read", "decode", "transfer", "forward"), 0.0)
        self.forwarded = 0

    @property
    def info(self) -> EngineInfo:
        """The engine's properties, as `run.json` has them."""
        backend = Backend(
            device=self.device_name.partition(",")[0],
            precision=self.precision,
            kernel=self.kernel,
            versions=engine_versions(self.libraries),
        )
        return EngineInfo(
            backend=backend,
            device_name=self.device_name,
            batch_size=self.batch_size,
            limits=self.decoder.memory.limits(),
            overrides_decoding=self.decoder.decode_options != self.model.info.decode_options(),
        )

    @property
    def calibration(self) -> Calibration:
        """The model's calibration; a temperature of 1 without bias changes nothing."""
        calibration = None if self.settings.raw else self.model.info.calibration
        return calibration or Calibration()

    @property
    def needs_features(self) -> bool:
        """Whether the network must return features, for rows or for outlier scores."""
        return self.features or self.outlier_detector is not None

    @abc.abstractmethod
    def forward(self, pixels: np.ndarray) -> Outputs:
        """The network's outputs, not calibrated, for uint8 pixels (n, side, side, 3)."""

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """The network's float32 (n, classes), not calibrated, for uint8 (n, side, side, 3)."""
        return self.forward(pixels).probabilities

    @abc.abstractmethod
    def predict_batches(self, storage: Storage, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        """The rows of every batch of files, in order, computed a few batches ahead."""

    def predict_rows(self, storage: Storage, names: Sequence[str]) -> Iterator[Row]:
        """The row of each file, in order."""
        size = self.batch_size
        batches = ([*names[at : at + size]] for at in range(0, len(names), size))
        return (row for batch in self.predict_batches(storage, batches) for row in batch)

    def predict_files(self, storage: Storage, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The probabilities of each file by its name; unreadable files are left out."""
        rows = self.predict_rows(storage, names)
        return {row.name: row.probabilities for row in rows if row.probabilities is not None}

    def self_check(self) -> float:
        """The largest difference from the published probabilities. Raises ModelError if large."""
        images, expected = read_selfcheck(self.model)
        shape = self.decoder.side, self.decoder.resize
        pixels = np.stack([np.asarray(resize_image(one, *shape)) for one in images])
        difference = float(np.abs(self.probabilities(pixels) - expected).max())
        if not difference <= TOLERANCES[self.precision]:
            raise ModelError(
                f"{self.model.storage}: fails its self-check in {self.precision} (probabilities "
                f"differ by {difference:.2g}); score with the versions in model.json, or publish "
                "the model again"
            )
        return difference

    def finish_rows(
        self, batch: DecodedBatch, outputs: Outputs | None, forward_seconds: float
    ) -> list[Row]:
        """The batch's rows with their outputs; its seconds are added to the engine's."""
        self.seconds["read"] += batch.read_seconds / self.workers
        self.seconds["decode"] += batch.decode_seconds / self.workers
        self.seconds["forward"] += forward_seconds
        self.forwarded += batch.ok_count
        values = iter(() if outputs is None else self._row_values(outputs.head(batch.ok_count)))
        return [row._replace(**next(values)) if row.status == "ok" else row for row in batch.rows]

    def _decide(self, raw: np.ndarray) -> Iterator[dict[str, Any]]:
        """The probabilities and the label, or labels, of each image."""
        info, calibration = self.model.info, self.calibration
        if not info.multi_label:
            found = calibrate(raw, calibration.temperature, calibration.bias)
            for one, label in zip(found, raw.argmax(1).tolist(), strict=True):
                yield {"probabilities": one, "label": label}
            return
        calibrated = calibrate_each(raw, info.calibration)
        for shown, has_label in zip(
            raw if self.settings.raw else calibrated,
            has_labels(calibrated, info.decision_thresholds),
            strict=True,
        ):
            yield {"probabilities": shown, "labels": tuple(np.flatnonzero(has_label).tolist())}

    def _row_values(self, outputs: Outputs) -> Iterator[dict[str, Any]]:
        """The fields of `Row` that come from the network, for each image."""
        for at, values in enumerate(self._decide(outputs.probabilities)):
            if outputs.features is not None:
                features = outputs.features[at]
                if self.features:
                    values["features"] = features
                if self.outlier_detector:
                    values["outlier_score"] = self.outlier_detector.outlier_score(features)
            yield values
