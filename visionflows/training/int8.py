"""The network in int8 for CPUs that have it natively, and the evidence for scoring with it.

    from visionflows.training.int8 import of_draft
    of_draft(draft, info, files, folder)["labels"]       # 0.9983

NNCF (https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide) puts the steps of
every layer where training images need them. The head stays in float32: it is a thousandth of the
work, and rounding its few logits would flip more labels than all that comes before. Where labels
do not agree so, NNCF takes back the layers that cost most, one after the other.
"""

import importlib
import importlib.util
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from visionflows.engine import EngineSettings, make_engine
from visionflows.engine.evidence import LEAST
from visionflows.engine.openvino import core, runtime
from visionflows.errors import ModelError, one_line
from visionflows.model.bundle import INT8, ONNX, Model
from visionflows.model.schema import ModelInfo
from visionflows.places.local import LocalPlace
from visionflows.places.names import name_of
from visionflows.training import agreement

if TYPE_CHECKING:
    import openvino
    import pandas as pd

log = logging.getLogger("visionflows.int8")

CALIBRATED = 320  # images: NNCF's default is 300, and batches are of 16
JUDGED = 320  # images by which layers are taken back, none of them of the evidence


def is_here() -> bool:
    """Whether NNCF is installed, which only `visionflows[int8]` brings."""
    return importlib.util.find_spec("nncf") is not None


def of_draft(draft: Path, info: ModelInfo, files: "pd.DataFrame", folder: Path) -> dict[str, Any]:
    """The evidence for int8 of a draft (`precision.int8` in model.json), whose files this writes.

    Keys as of agreement.agreement; `why` alone where there is no such network.
    """
    place = LocalPlace(draft)
    model = Model(place, info, digest="")
    if not place.exists(ONNX):
        return {"auto": "float32", "why": f"no {ONNX} to make it of"}
    images = _Images(model, files, folder)
    if not images.calibration:
        return {"auto": "float32", "why": "fewer than 16 training images to make it with"}
    for controlled in (False, True):
        _write(place, _quantised(model, images, controlled))
        try:
            make_engine(model, EngineSettings(precision="int8"))
        except ModelError as error:
            found: dict[str, Any] = {"auto": "float32", "why": one_line(str(error))}
            continue
        found = agreement.of_draft(draft, info, files, folder, "int8")
        if found["auto"] == "int8":
            return found
        log.info("int8%s: %s", ", layers taken back" if controlled else "", found["why"])
    if "images" not in found:
        for name in INT8:
            place.remove(name)
    return found


def _nncf() -> ModuleType:
    """NNCF, which is as quiet as OpenVINO once that is."""
    runtime()
    return importlib.import_module("nncf")


class _Images:
    """Training images as a network is given them, in an order of no names."""

    def __init__(self, model: Model, files: "pd.DataFrame", folder: Path):
        train = files[(files.status == "ok") & ~files.is_valid.astype(bool)]
        names = list(train.sort_values("sha256", ascending=False).path)
        engine = make_engine(model, EngineSettings(precision="float32", engine="openvino"), False)
        self.exact, self.size, where = engine, engine.batch_size, LocalPlace(folder)

        def batches(names: list[str]) -> Iterator[np.ndarray]:
            for at in range(0, len(names) - self.size + 1, self.size):
                chosen = [name_of(name) for name in names[at : at + self.size]]
                yield engine.decoder(where, chosen).pixels

        self.calibration = list(batches(names[:CALIBRATED]))
        self.judging = list(batches(names[CALIBRATED : CALIBRATED + JUDGED])) or self.calibration


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


def _write(place: LocalPlace, network: "openvino.Model") -> None:
    with tempfile.TemporaryDirectory() as folder:
        runtime().save_model(network, f"{folder}/{INT8[0]}", compress_to_fp16=False)
        for name in reversed(INT8):
            place.write(name, Path(folder, name).read_bytes())
