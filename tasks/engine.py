"""The scoring engine: files in, one row for each out, in order, whatever the files hold.

    from tasks.engine import Engine, EngineSettings
    engine = Engine(load(find("pets", "store")), EngineSettings())
    for rows in engine.stream(place("inbox"), [["1.jpg", "2.jpg"]]):
        print(rows)

Reading, decoding and the network overlap. On a CPU every stream is a thread that decodes a
batch and runs the network on it with one core of its own, so that no core waits for another.
On a GPU processes decode into uint8 batches, which are pinned, sent and normalised there while
the next ones are being decoded; nothing waits for the device before a result is needed.
"""

import collections
import concurrent.futures
import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks import bundle
from tasks.decode import Batch, Decoded, Decoder, Row, as_entry
from tasks.errors import ModelError, SettingsError
from tasks.fused import fused
from tasks.images import MAX_PIXELS, open_image, resized
from tasks.network import folded
from tasks.storage import Place

if TYPE_CHECKING:
    import torch

log = logging.getLogger("visionflows.engine")

# Rounding alone: other kernels, batch norm folded. Seen: 2e-6 on CPUs, 1e-5 on GPUs.
FLOAT32_TOLERANCE = 1e-4
# A bfloat16 has 8 bits of precision; what is seen through a resnet34 is about 0.02.
REDUCED_TOLERANCE = 0.1
READ_AHEAD = 32  # files at least that are under way, so that latency does not starve decoders


class EngineSettings(BaseModel):
    """How to score; nothing here changes which rows there are, or what they say beyond rounding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="`auto`: the fast one where the model has evidence that it agrees."
    )
    batch_size: int | None = Field(
        None, ge=1, le=8192, description="Images a forward pass; by default 16, on a GPU 256."
    )
    workers: int | None = Field(
        None, ge=1, le=256, description="Decoders (GPU) or streams (CPU); by default one a core."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto`: a GPU if there is one."
    )
    compile: bool = Field(
        False, description="torch.compile the network: a slow start, a faster run."
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="Larger images get the row `too_large`.")


class Engine:
    """A model on a device, checked against its own self-check, that turns files into rows.

    Raises ModelError when the network does not give the probabilities it was published with.
    """

    def __init__(self, model: bundle.Model, settings: EngineSettings, check: bool = True):
        import torch

        self.model, self.settings = model, settings
        self.device = _device(settings.device)
        self.precision = _precision(model, settings.precision, self.device)
        cpu = self.device.type == "cpu"
        cores = len(os.sched_getaffinity(0))
        self.batch_size = settings.batch_size or (16 if cpu else 256)
        self.workers = settings.workers or (cores if cpu else max(cores - 1, 1))
        self.decoder = Decoder(
            self.batch_size, model.info["image_size"], model.info["resize"], settings.max_pixels
        )
        self.seconds = dict.fromkeys(("read", "decode", "transfer", "forward"), 0.0)
        self.forwarded = 0
        self.chunk = self.batch_size
        self._dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.precision]
        self._scale, self._shift = self._normalisation()
        self._ready(bundle.network_of(model))
        if check:
            self.self_check()

    @property
    def device_name(self) -> str:
        """The device in words."""
        import torch

        if self.device.type == "cuda":
            return f"cuda: {torch.cuda.get_device_name(self.device)}"
        return f"cpu: {_cpu_name()}, {len(os.sched_getaffinity(0))} cores"

    def self_check(self) -> float:
        """The largest difference from the published probabilities. Raises ModelError if large."""
        images, expected = bundle.selfcheck_images(self.model)
        side, method = self.decoder.side, self.decoder.resize
        pixels = np.stack(
            [np.asarray(resized(open_image(image), side, method)) for image in images]
        )
        difference = float(np.abs(self.probabilities(pixels) - expected).max())
        allowed = FLOAT32_TOLERANCE if self.precision == "float32" else REDUCED_TOLERANCE
        if not difference <= allowed:
            raise ModelError(
                f"{self.model.place}: fails its self-check in {self.precision} (probabilities are "
                f"off by {difference:.2g}); score with the versions in model.json, or publish again"
            )
        return difference

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """float32 (n, classes) for uint8 pixels (n, side, side, 3)."""
        import torch

        with torch.inference_mode():
            return self.forward(torch.from_numpy(pixels).to(self.device)).float().cpu().numpy()

    def stream(self, place: Place, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        """The rows of every batch of files, in order, computed ahead of being asked for.

        Batches are taken from the iterable only a few ahead, so that memory stays flat.
        """
        if self.device.type == "cuda":
            from tasks.engine_gpu import stream

            return stream(self, place, batches)
        return self._cpu_stream(place, batches)

    def _cpu_stream(self, place: Place, batches: Iterable[Batch]) -> Iterator[list[Row]]:
        pending: collections.deque = collections.deque()
        pool = concurrent.futures.ThreadPoolExecutor(self.workers, initializer=_one_core)
        try:
            for files in batches:
                # Where reading takes time it begins here, a few batches ahead of the decoders.
                contents = place.read_many(map(as_entry, files))
                pending.append(pool.submit(self._rows, files, contents))
                if len(pending) > max(2 * self.workers, READ_AHEAD // self.batch_size):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _rows(self, files: Batch, contents: Iterator[bytes | OSError]) -> list[Row]:
        decoded = self.decoder.decode(files, contents)
        started = time.perf_counter()
        probabilities = self.probabilities(decoded.pixels) if decoded.good else ()
        return self.filled(decoded, probabilities, time.perf_counter() - started)

    def filled(self, decoded: Decoded, probabilities, forward_seconds: float) -> list[Row]:
        """The batch's rows with their probabilities; its seconds go into the engine's books."""
        self.seconds["read"] += decoded.read_seconds / self.workers
        self.seconds["decode"] += decoded.decode_seconds / self.workers
        share = self.workers if self.device.type == "cpu" else 1
        self.seconds["forward"] += forward_seconds / share
        self.forwarded += decoded.good
        answers = iter(probabilities[: decoded.good])
        return [
            row._replace(probabilities=next(answers)) if row.status == "ok" else row
            for row in decoded.rows
        ]

    def forward(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Probabilities, float32 (n, classes), of uint8 pixels (n, side, side, 3) on the device.

        Running out of GPU memory halves what is computed at once, and goes on.
        """
        import torch

        while True:
            try:
                return torch.cat([self._answers(part) for part in pixels.split(self.chunk)])
            except torch.cuda.OutOfMemoryError:
                if self.chunk == 1:
                    raise
                self.chunk //= 2
                torch.cuda.empty_cache()
                log.warning("out of GPU memory: going on with %d images at once", self.chunk)

    def _answers(self, pixels: "torch.Tensor") -> "torch.Tensor":
        # NHWC is channels_last already. To 0..1, minus mean, over deviation, in two passes.
        images = pixels.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
        return self._head(self._body(images.to(self._dtype)).float()).softmax(1)

    def _normalisation(self) -> tuple["torch.Tensor", "torch.Tensor"]:
        """The factor and the summand of a pixel value, a channel each."""
        import torch

        mean, deviation = (
            torch.tensor(self.model.info["normalise"][key], device=self.device).view(1, 3, 1, 1)
            for key in ("mean", "std")
        )
        return 1 / (255 * deviation), -mean / deviation

    def _ready(self, network) -> None:
        """Put the body at the engine's precision on the device, the head in float32.

        The head is a thousandth of the work, and rounding its few logits to bfloat16 would flip
        more labels than rounding all that comes before.
        """
        import torch

        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = False  # float32 means float32
            torch.backends.cudnn.allow_tf32 = False
        body, head = network
        body = folded(body).to(self.device, self._dtype, memory_format=torch.channels_last)
        body.requires_grad_(False)
        if self.settings.compile:
            body = torch.compile(body, dynamic=False)
        elif self.device.type == "cpu" and self.precision == "bfloat16":
            side = self.decoder.side
            body = fused(body, torch.zeros(self.batch_size, 3, side, side))
        self._body, self._head = body, head.to(self.device).requires_grad_(False)


def _one_core() -> None:
    """A stream has one core to itself: no thread of it waits for another."""
    import torch

    torch.set_num_threads(1)


def _device(wanted: str) -> "torch.device":
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "device cuda: no GPU that torch can use here; `visionflows doctor` says why"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _precision(model: bundle.Model, wanted: str, device: "torch.device") -> str:
    """The precision to score in; `auto` never takes one the model has no evidence for."""
    if wanted != "auto":
        return wanted
    evidence = model.info.get("precision", {}).get("agreement", {})
    return (
        "bfloat16" if evidence.get("auto") == "bfloat16" and native_bfloat16(device) else "float32"
    )


def native_bfloat16(device: "torch.device") -> bool:
    """Whether a device computes bfloat16 natively, rather than by way of float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def _cpu_name() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "unknown"
