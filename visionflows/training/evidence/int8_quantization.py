"""Quantize the network to int8 for CPUs with native support, and measure its label agreement.

NNCF (https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide) calibrates every
layer on training images. The head stays in float32: it is a thousandth of the work, and rounding
its few logits changes more labels than all layers before it. If too few labels agree, NNCF reverts
the layers with the most effect to float32, one by one.
"""

import importlib
import logging
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from timeit import timeit
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from visionflows.errors import one_line
from visionflows.evaluation.label_decisions import calibrate_each, has_labels
from visionflows.inference import Engine, EngineSettings, make_engine
from visionflows.inference.openvino import (
    import_openvino,
    native_kernels,
    openvino_core,
    shared_core,
)
from visionflows.inference.precision_policy import MIN_AGREEMENT
from visionflows.models.artifact import INT8, ONNX, Model
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.evidence.label_agreement import measure_label_agreement

if TYPE_CHECKING:
    import openvino
log = logging.getLogger("visionflows.int8")

CALIBRATION_IMAGES = 320  # NNCF's default is 300, and batches have 16
CONTROL_IMAGES = 320  # whose labels decide which layers are reverted
MAX_PIXEL_BYTES = 256 << 20  # of pixels held in memory
MIN_SPEEDUP = 1.1  # over what `auto` uses otherwise; less is not worth a changed label


def quantize_int8(model: Model, files: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Write the int8 network and return `precision.int8` of model.json.

    That is the agreement, and the speed of the network alone. Only auto and why, if there is no
    int8 network.
    """
    why = _why_not(model)
    images = None if why else _TrainingImages(model, files, folder)
    if images is not None and len(images.calibration) and len(images.control):
        try:
            _write_quantized(model, images)
            agreement = measure_label_agreement(model, files, folder, "int8", images.sha256s)
            return _with_speed(model, images, agreement)
        # NNCF and OpenVINO raise errors of all kinds; the reason goes into model.json.
        except Exception as error:  # noqa: BLE001
            why = one_line(f"{type(error).__name__}: {error}")
    for name in INT8:
        model.storage.remove(name)
    return {"auto": "float32", "why": why or "too few training images to calibrate on"}


def _why_not(model: Model) -> str:
    if not model.storage.exists(ONNX):
        return f"no {ONNX} to quantize"
    return "" if native_kernels()["int8"] else "published without native int8: no evidence"


def _write_quantized(model: Model, images: "_TrainingImages") -> None:
    """Write the int8 network; revert layers to float32 if too few labels agree."""
    _quantize(model, images, accuracy_control=False)
    engine = make_engine(model, EngineSettings(precision="int8"), False)
    share, _ = images.label_agreement(lambda batch: [engine.probabilities(batch)], images.control)
    if share < MIN_AGREEMENT:
        log.info("int8: %.2f %% of labels agree; reverting layers to float32", 100 * share)
        _quantize(model, images, accuracy_control=True)
    make_engine(model, EngineSettings(precision="int8"))  # runs its self-check


def _with_speed(
    model: Model, images: "_TrainingImages", agreement: dict[str, Any]
) -> dict[str, Any]:
    """Return the agreement with the measured speed; `auto` needs a clear gain."""
    other: Literal["bfloat16", "float32"] = (
        "bfloat16" if native_kernels()["bfloat16"] else "float32"
    )
    settings = (EngineSettings(precision="int8"), EngineSettings(precision=other, device="cpu"))
    engines = [make_engine(model, one, False) for one in settings]

    def seconds(engine: Engine) -> float:
        return timeit(lambda: [*map(engine.probabilities, images.calibration[:8])], number=1)

    rounds = [[*map(seconds, engines)] for _ in range(3)]
    speed = statistics.median(other_time / int8_time for int8_time, other_time in rounds)
    agreement = agreement | {"speed": round(speed, 2)}
    if agreement["auto"] == "int8" and speed < MIN_SPEEDUP:
        why = f"int8 is {speed:.2f} times as fast as {other}"
        return agreement | {"auto": "float32", "why": why}
    return agreement


def _nncf() -> ModuleType:
    """Return NNCF, which logs only warnings and sends no telemetry once OpenVINO is loaded."""
    import_openvino()
    nncf = importlib.import_module("nncf")
    nncf.set_log_level(logging.WARNING)
    return nncf


class _TrainingImages:
    """Batches of training images as the network gets them, each content once, in sha256 order.

    `calibration` and `control` hold different images; `sha256s` are those of both.
    """

    def __init__(self, model: Model, files: pd.DataFrame, folder: Path):
        train = files[(files.status == "ok") & ~files.is_valid.astype(bool)]
        train = train.sort_values("sha256", ascending=False).drop_duplicates("sha256")
        self.float32_engine = make_engine(
            model, EngineSettings(precision="float32", engine="openvino", device="cpu"), False
        )
        size, side = self.float32_engine.batch_size, self.float32_engine.decoder.side
        max_batches = MAX_PIXEL_BYTES // (3 * side * side * size) or 1
        starts = range(0, len(train) - size + 1, size)
        batches = [train[start : start + size] for start in starts]
        half = max(len(batches) // 2, 1)  # with few images each gets a half
        first = min(CALIBRATION_IMAGES // size, half, max_batches)
        last = first + min(CONTROL_IMAGES // size, max_batches)
        self.sha256s = {sha256 for batch in batches[:last] for sha256 in batch.sha256}
        storage = LocalStorage(folder)

        def read_pixels(batch: pd.DataFrame) -> np.ndarray:
            names = [decode_name(path) for path in batch.path]
            return self.float32_engine.decoder(storage, names).pixels

        self.calibration = [read_pixels(batch) for batch in batches[:first]]
        self.control = [read_pixels(batch) for batch in batches[first:last]]

    def label_agreement(self, network: Any, batches: Iterable[np.ndarray]) -> tuple[float, None]:
        """The share of images with the label of float32; NNCF's validation function."""
        exact = self.float32_engine.probabilities
        info = self.float32_engine.model.info

        def labels(probabilities: np.ndarray) -> np.ndarray:
            if not info.multi_label:
                return np.asarray(probabilities.argmax(1, keepdims=True))
            calibrated = calibrate_each(probabilities, info.calibration)
            return has_labels(calibrated, info.decision_thresholds)

        same = [(labels(network(batch)[0]) == labels(exact(batch))).all(1) for batch in batches]
        return float(np.concatenate(same).mean()), None


def _quantize(model: Model, images: _TrainingImages, accuracy_control: bool) -> None:
    """Write the int8 network; `accuracy_control` reverts layers that change too many labels."""
    nncf = _nncf()
    network, quantize = openvino_core().read_model(model.files.read(ONNX)), nncf.quantize
    options = {
        "preset": nncf.QuantizationPreset.MIXED,
        "ignored_scope": nncf.IgnoredScope(names=head_layers(network)),
        "subset_size": len(images.calibration),
    }
    if accuracy_control:
        quantize = nncf.quantize_with_accuracy_control
        options |= {
            "validation_dataset": nncf.Dataset(images.control),
            "validation_fn": images.label_agreement,
            "max_drop": 1 - MIN_AGREEMENT,
        }
    with shared_core(), tempfile.TemporaryDirectory() as folder:
        quantized = quantize(network, nncf.Dataset(images.calibration), **options)
        import_openvino().save_model(quantized, f"{folder}/{INT8[0]}", compress_to_fp16=False)
        for name in reversed(INT8):
            model.storage.write(name, Path(folder, name).read_bytes())


def head_layers(network: "openvino.Model") -> list[str]:
    """Return the names of the layers between features and logits."""
    before = set(_layers_before(network.output("features").node))
    all_layers = _layers_before(network.output("logits").node)
    return sorted({name for name in all_layers if name not in before})


def _layers_before(node: Any) -> Iterator[str]:
    """Yield the names of the layers that a node depends on, and its own."""
    seen, stack = set(), [node]
    while stack:
        node = stack.pop()
        name = node.get_friendly_name()
        if name in seen:
            continue
        seen.add(name)
        if node.get_type_name() not in ("Constant", "Parameter", "Result"):
            yield name
        stack += [given.get_source_output().get_node() for given in node.inputs()]
