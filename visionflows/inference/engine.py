"""The scoring engine, whatever computes: files in, one row for each out, in order.

    from visionflows.inference import make_engine
    engine = make_engine(load(find("pets", "store")), EngineSettings())
    for rows in engine.stream(place("inbox"), [["1.jpg", "2.jpg"]]):
        print(rows)

What reads, decodes and computes at the same time is the business of each kind of engine.
"""

import abc
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from visionflows.errors import ModelError
from visionflows.evaluation.calibration import calibrated
from visionflows.evaluation.outliers import read_bank
from visionflows.images.decode_options import Decoding
from visionflows.images.memory_limits import MAX_PIXELS, MemoryLimits
from visionflows.images.open import open_image
from visionflows.images.resize import resize_image
from visionflows.inference.backend import Backend, EngineInfo
from visionflows.inference.decoding import Batch, Decoded, Decoder, Row
from visionflows.models.artifact import Model, selfcheck_images
from visionflows.storage.base import Storage
from visionflows.system import engine_versions

log = logging.getLogger("visionflows.inference")

# Rounding alone: other kernels, batch norm folded. Seen: 2e-6 on CPUs, 1e-5 on GPUs.
FLOAT32_TOLERANCE = 1e-4
# What shows that weights or versions are others, and lets rounding pass. A bfloat16 has 8 bits of
# precision, which through a resnet34 is about 0.02; int8 has steps that its calibration chose.
TOLERANCES = {"float32": FLOAT32_TOLERANCE, "bfloat16": 0.1, "int8": 0.3}


class EngineSettings(BaseModel):
    """How to score; which of these make another run, because rows may differ, says `job_of`.

    The precision, the batch size, the device and the engine change what rows say by no more than
    rounding (of the last two, rows of several are kept in one result, which says so);
    `max_pixels` decides which files are `too_large`, `decode` what is seen of large photos, and
    `exif` and `look_alikes` add columns; the others change nothing but the speed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto", description="`auto`: the fast one where the model has evidence that it agrees here."
    )
    batch_size: int | None = Field(
        None, ge=1, le=8192, description="Images a forward pass; by default 16, on a GPU 256."
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Decoders (GPU) or streams (CPU); by default as many as memory has room for.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto`: a GPU if there is one."
    )
    engine: Literal["auto", "openvino", "torch"] = Field(
        "auto", description="`auto`: torch on a GPU, OpenVINO on a CPU if it has the model."
    )
    compile: bool = Field(
        False, description="torch.compile the network: a slow start, a faster run."
    )
    max_pixels: int = Field(
        MAX_PIXELS,
        ge=1,
        description="Images of more pixels, as decoded, get the row `too_large`, as those do that "
        "memory cannot hold; a large JPEG is decoded smaller, unless `decode` is full.",
    )
    decode: Decoding = Field(
        "auto", description="Large photos whole, or smaller; `auto`: as the model was trained."
    )
    exif: bool = Field(
        False,
        description="Columns of what a photo says of itself: when, with what and where it was "
        "taken, and how large it is.",
    )
    raw: bool = Field(
        False, description="Probabilities as the network gives them, not calibrated ones."
    )
    find_duplicates: bool = Field(
        False,
        description="Columns that name a file of the training, and one before it in this run, "
        "that a picture is again: the same bytes, or the same photo resized, recompressed or cut "
        "a little.",
    )


class Answers(NamedTuple):
    """What a network says of images, float32: `probabilities` (n, classes) and, where they are
    asked for, `features` (n, features): what its head is given of each, once it is pooled."""

    probabilities: np.ndarray
    features: np.ndarray | None = None


class Engine(abc.ABC):
    """A model ready to turn files into rows.

    `batch_size` images are computed at once, `workers` files decoded at once, `few` batches tell
    how fast it is. `seconds` by stage and `forwarded` images are its books. Where `features` is
    set, rows have them. `bank` is by what pictures of another kind are told, if the model has it.
    """

    features = False

    few: int
    kernels: Mapping[str, str]  # what computes `bfloat16` natively, and `int8`: `amx_bf16`, …
    locks: Any = threading  # of what decodes at once: threads, or processes
    device_name: str  # in words, such as `cpu: AMD EPYC 9354, 2 cores`
    kernel: str  # whose convolutions: those of others round otherwise
    libraries: tuple[str, ...]  # whose versions matter to that

    def __init__(
        self, model: Model, settings: EngineSettings, precision: str, batch_size: int, workers: int
    ):
        self.model, self.settings, self.precision = model, settings, precision
        self.batch_size = settings.batch_size or batch_size
        self.workers = settings.workers or workers
        memory = MemoryLimits(settings.max_pixels, self.workers, self.locks)
        shape = model.info.image_size, model.info.resize
        self.decode_options = model.info.decode_options(settings.decode)
        self.decoder = Decoder(
            self.batch_size, *shape, settings.max_pixels, memory, self.decode_options
        )
        self.decoder.exif, self.decoder.find_duplicates = settings.exif, settings.find_duplicates
        self.bank = read_bank(model)
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
            limits={"max_pixels": self.settings.max_pixels, **self.decoder.memory.limits()},
            overrides_decoding=self.decode_options != self.model.info.decode_options(),
        )

    @property
    def temperature(self) -> float:
        """By what the logits behind the probabilities of rows are divided: 1 leaves them alone."""
        found = None if self.settings.raw else self.model.info.calibration
        return found.temperature if found else 1.0

    @property
    def asks_features(self) -> bool:
        """Whether its network is to give features: to rows, or to tell by how odd each is."""
        return self.features or self.bank is not None

    @abc.abstractmethod
    def forward(self, pixels: np.ndarray) -> Answers:
        """The network's own answers, not calibrated, for uint8 pixels (n, side, side, 3)."""

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """The network's own float32 (n, classes) for uint8 pixels (n, side, side, 3)."""
        return self.forward(pixels).probabilities

    @abc.abstractmethod
    def stream(self, storage: Storage, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        """The rows of every batch of files, in order, computed ahead of being asked for.

        Batches are taken from the iterable only a few ahead, so that memory stays flat.
        """

    def answers(self, storage: Storage, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The probabilities of each file, by its name; one that cannot be shown is left out."""
        size = self.batch_size
        batches = ([*names[at : at + size]] for at in range(0, len(names), size))
        rows = (row for batch in self.stream(storage, batches) for row in batch)
        return {row.name: row.probabilities for row in rows if row.probabilities is not None}

    def self_check(self) -> float:
        """The largest difference from the published probabilities. Raises ModelError if large."""
        images, expected = selfcheck_images(self.model)
        side, method = self.decoder.side, self.decoder.resize
        pixels = np.stack(
            [np.asarray(resize_image(open_image(image), side, method)) for image in images]
        )
        difference = float(np.abs(self.probabilities(pixels) - expected).max())
        if not difference <= TOLERANCES[self.precision]:
            raise ModelError(
                f"{self.model.storage}: fails its self-check in {self.precision} (probabilities are "
                f"off by {difference:.2g}); score with the versions in model.json, or publish again"
            )
        return difference

    def filled(
        self, decoded: Decoded, answers: Answers | None, forward_seconds: float
    ) -> list[Row]:
        """The batch's rows with what is said of them; its seconds go into the engine's books."""
        self.seconds["read"] += decoded.read_seconds / self.workers
        self.seconds["decode"] += decoded.decode_seconds / self.workers
        self.seconds["forward"] += forward_seconds
        self.forwarded += decoded.good
        told = iter(() if answers is None else self._told(answers, decoded.good))
        return [row._replace(**next(told)) if row.status == "ok" else row for row in decoded.rows]

    def _told(self, answers: Answers, good: int) -> Iterator[dict[str, Any]]:
        """What the row of each of the first `good` images has to say."""
        probabilities = calibrated(answers.probabilities[:good], self.temperature)
        for at, one in enumerate(probabilities):
            told: dict[str, Any] = {"probabilities": one}
            if answers.features is not None:
                own = answers.features[at]
                told |= {"features": own} if self.features else {}
                told |= {"outlier_score": self.bank.outlier_score(own)} if self.bank else {}
            yield told
