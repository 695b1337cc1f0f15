"""The network in int8 for CPUs that have it natively, and the evidence for scoring with it.

    from visionflows.training.evidence.int8_quantization import quantize_int8
    quantize_int8(draft, info, files, folder)["labels"]       # 0.9983

NNCF (https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide) puts the steps of
every layer where training images need them. The head stays in float32: it is a thousandth of the
work, and rounding its few logits would flip more labels than all that comes before. Where labels
do not agree so, NNCF takes back the layers that cost most, one after the other.
"""

import importlib
import importlib.util
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from visionflows.errors import one_line
from visionflows.inference import Engine, EngineSettings, make_engine
from visionflows.inference.openvino import core, kernels, runtime, with_our_core
from visionflows.inference.precision_policy import LEAST
from visionflows.models.artifact import INT8, ONNX, Model
from visionflows.models.schema import ModelInfo
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name
from visionflows.training.evidence import label_agreement

if TYPE_CHECKING:
    import openvino
    import pandas as pd

log = logging.getLogger("visionflows.int8")

CALIBRATED = 320  # images: NNCF's default is 300, and batches are of 16
JUDGED = 320  # others, by whose labels layers are taken back
MOST_BYTES = 256 << 20  # of pixels that are held meanwhile
FASTER = 1.1  # times the speed of what `auto` would take otherwise: less is not worth a flip


def is_here() -> bool:
    """Whether NNCF is installed, which only `visionflows[int8]` brings."""
    return importlib.util.find_spec("nncf") is not None


def quantize_int8(
    checkpoint: Path, info: ModelInfo, files: "pd.DataFrame", folder: Path
) -> dict[str, Any]:
    """The evidence for int8 of a draft (`precision.int8` in model.json), whose files this writes.

    Keys as of agreement.agreement, and speed: how many times as fast as bfloat16 (float32, where
    that is not native) the network alone is; `why` alone where there is no such network.
    """
    storage = LocalStorage(checkpoint)
    model = Model(storage, info, digest="")
    lacks = _lacks(storage)
    images = None if lacks else _Images(model, files, folder)
    if images is not None and len(images.calibration) and len(images.judging):
        try:
            _make(storage, model, images)
            found = label_agreement.measure_label_agreement(
                checkpoint, info, files, folder, "int8", images.used
            )
            return _if_faster(model, images, found)
        # NNCF and OpenVINO raise what they meet: it is not hidden, but told in model.json.
        except Exception as error:  # noqa: BLE001
            lacks = one_line(f"{type(error).__name__}: {error}")
    for name in INT8:
        storage.remove(name)
    return {"auto": "float32", "why": lacks or "too few training images to make it with"}


def _lacks(storage: LocalStorage) -> str:
    if not storage.exists(ONNX):
        return f"no {ONNX} to make it of"
    return "" if kernels()["int8"] else "published where int8 is not native: no evidence"


def _make(storage: LocalStorage, model: Model, images: "_Images") -> None:
    """Write the network in int8; layers are taken back where it calls too many images otherwise."""
    with with_our_core():
        _write(storage, _quantised(model, images, controlled=False))
    engine = make_engine(model, EngineSettings(precision="int8"), False)
    share, _ = _agreeing(images.exact.probabilities)(
        lambda batch: [engine.probabilities(batch)], images.judging
    )
    if share < LEAST:
        log.info("int8: %.2f %% of labels agree; taking layers back that cost most", 100 * share)
        with with_our_core():
            _write(storage, _quantised(model, images, controlled=True))
    make_engine(model, EngineSettings(precision="int8"))  # its self-check


def _if_faster(model: Model, images: "_Images", found: dict[str, Any]) -> dict[str, Any]:
    """The evidence, with how fast the network is; `auto` takes none that is not clearly faster."""
    other: Literal["bfloat16", "float32"] = "bfloat16" if kernels()["bfloat16"] else "float32"
    settings = (EngineSettings(precision="int8"), EngineSettings(precision=other, device="cpu"))
    engines = [make_engine(model, one, False) for one in settings]
    rounds = [[_seconds(engine, images.calibration[:8]) for engine in engines] for _ in range(3)]
    speed = statistics.median(theirs / ours for ours, theirs in rounds)
    found = found | {"speed": round(speed, 2)}
    if found["auto"] == "int8" and speed < FASTER:
        return found | {"auto": "float32", "why": f"int8 is {speed:.2f} times as fast as {other}"}
    return found


def _seconds(engine: Engine, batches: list[np.ndarray]) -> float:
    began = time.perf_counter()
    for batch in batches:
        engine.probabilities(batch)
    return time.perf_counter() - began


def _nncf() -> ModuleType:
    """NNCF, which is as quiet as OpenVINO once that is; of its many lines, its warnings."""
    runtime()
    nncf = importlib.import_module("nncf")
    nncf.set_log_level(logging.WARNING)
    return nncf


class _Images:
    """Training images as a network is given them, each content once, in an order of no names.

    `calibration` and `judging` are batches of different ones; `used` are the sha256 of both.
    """

    def __init__(self, model: Model, files: "pd.DataFrame", folder: Path):
        train = files[(files.status == "ok") & ~files.is_valid.astype(bool)]
        train = train.sort_values("sha256", ascending=False).drop_duplicates("sha256")
        self.exact = make_engine(
            model, EngineSettings(precision="float32", engine="openvino", device="cpu"), False
        )
        size, side = self.exact.batch_size, self.exact.decoder.side
        room = MOST_BYTES // (3 * side * side * size) or 1
        batches = [train[at : at + size] for at in range(0, len(train) - size + 1, size)]
        half = max(len(batches) // 2, 1)  # of few images each has a half
        first = min(CALIBRATED // size, half, room)
        second = batches[first : first + min(JUDGED // size, room)]
        self.used = {one for batch in (*batches[:first], *second) for one in batch.sha256}
        where = LocalStorage(folder)

        def pixels(batch: "pd.DataFrame") -> np.ndarray:
            return self.exact.decoder(where, [decode_name(path) for path in batch.path]).pixels

        self.calibration = [pixels(batch) for batch in batches[:first]]
        self.judging = [pixels(batch) for batch in second]


def _quantised(model: Model, images: _Images, controlled: bool) -> "openvino.Model":
    """The network in int8; `controlled` leaves float32 whatever flips too many labels."""
    nncf = _nncf()
    network = core().read_model(model.files.read(ONNX))
    kept = nncf.IgnoredScope(names=_head(network))
    calibration = nncf.Dataset(images.calibration)
    options = {"preset": nncf.QuantizationPreset.MIXED, "ignored_scope": kept}
    options["subset_size"] = len(images.calibration)
    if not controlled:
        return nncf.quantize(network, calibration, **options)
    return nncf.quantize_with_accuracy_control(
        network,
        calibration_dataset=calibration,
        validation_dataset=nncf.Dataset(images.judging),
        validation_fn=_agreeing(images.exact.probabilities),
        max_drop=1 - LEAST,
        **options,
    )


def _agreeing(exact: Callable[[np.ndarray], np.ndarray]) -> Callable[..., tuple[float, None]]:
    """NNCF's measure: the share of images whose label is that of float32."""

    def share(network: Any, batches: Iterable[np.ndarray]) -> tuple[float, None]:
        same = [network(batch)[0].argmax(1) == exact(batch).argmax(1) for batch in batches]
        return float(np.concatenate(same).mean()), None

    return share


def _head(network: "openvino.Model") -> list[str]:
    """The names of the layers between features and logits: what leads to the one, not the other."""
    before = set(_leading_to(network.output("features").node))
    after = _leading_to(network.output("logits").node)
    return sorted({node for node in after if node not in before})


def _leading_to(node: Any) -> Iterator[str]:
    """The names of all layers on the way to one."""
    seen, left = set(), [node]
    while left:
        here = left.pop()
        if here.get_friendly_name() in seen:
            continue
        seen.add(here.get_friendly_name())
        if here.get_type_name() not in ("Constant", "Parameter", "Result"):
            yield here.get_friendly_name()
        left += [given.get_source_output().get_node() for given in here.inputs()]


def _write(storage: LocalStorage, network: "openvino.Model") -> None:
    with tempfile.TemporaryDirectory() as folder:
        runtime().save_model(network, f"{folder}/{INT8[0]}", compress_to_fp16=False)
        for name in reversed(INT8):
            storage.write(name, Path(folder, name).read_bytes())
