"""What was measured of a model, as its model.json holds it: how good, how sure, how fast it may be.

from visionflows.models.metrics_schema import Calibration
Calibration(temperature=1.4, judged=200, ece=0.01)
"""

import math
from typing import Annotated

from pydantic import ConfigDict, Field

from visionflows.versioned_json import Count, JsonObject

Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Open(JsonObject):
    """A part that may hold more than is known of it here."""

    model_config = ConfigDict(extra="allow")


class Agreement(Open):
    """How a faster precision compares with float32: visionflows.training.evidence.label_agreement.

    `kernel` is what it was measured by (visionflows.inference.precision_policy), empty where an older version
    did not say.
    """

    precision: str = ""
    images: Count = 0
    labels: float | None = None
    largest_difference: float = 0.0
    disagreements: Count = 0
    far_disagreements: Count = 0
    trained_on: Count = 0
    device: str = ""
    kernel: str = ""
    library: str = ""
    torch: str = ""  # of older records, which torch alone computed
    auto: str = "float32"
    why: str = ""
    speed: float | None = None  # of int8: how many times that of bfloat16, or float32


class DecodeAgreement(Open):
    """How answers of large images decoded whole and smaller compare: training.decoding."""

    images: Count = 0
    disagreements: Count = 0
    largest_difference: float = 0.0
    mean_difference: float = 0.0


class Onnx(Open):
    """model.onnx, and how far its answers are from fastai's; or why there is none."""

    opset: Count = 0
    largest_difference: float = 0.0
    why: str = ""


class Precision(Open):
    """What a model was trained in, and the evidence for scoring in a faster one."""

    trained: str = "none"
    agreement: Agreement | None = None  # of bfloat16
    int8: Agreement | None = None


class ClassMetrics(Open):
    """How a class was told; precision and recall are None where nothing was, or was called, so."""

    class_: str = Field(alias="class")
    precision: float | None = None
    recall: float | None = None
    count: Count = 0


class Bin(Open):
    """Images whose confidence lies between two bounds: how many, its mean, how many were right."""

    count: Count = 0
    confidence: float = 0.0
    accuracy: float = 0.0


class Calibration(Open):
    """How sure a model may be believed: visionflows.training.evidence.fit_calibration.

    `temperature` is what its logits are divided by, fitted on `fitted` validation images; the
    expected calibration errors, and the bins behind them, are of `judged` ones, each by a
    temperature that was fitted on others.
    """

    temperature: Deviation = 1.0
    fitted: Count = 0
    judged: Count = 0
    ece_raw: float = math.nan
    ece: float = math.nan
    bins_raw: tuple[Bin, ...] = ()
    bins: tuple[Bin, ...] = ()
    why: str = ""  # there is none


class Outliers(Open):
    """What tells pictures of another kind (visionflows.training.evidence.outlier_detector), or why nothing does.

    An image that is odder than `threshold` is an outlier. It was set on `fitted` validation images
    for a share of `wanted` false alarms; `false_alarms` is their share among `judged` others, by
    the precision it was measured in.
    """

    method: str = ""
    k: int = Field(0, ge=0)
    directions: Count = 0
    images: Count = 0
    threshold: float | None = Field(None, gt=0)
    wanted: float = 0.0
    fitted: Count = 0
    judged: Count = 0
    false_alarms: dict[str, float] = Field(default_factory=dict)
    why: str = ""


class Metrics(Open):
    """What evaluation measured on the validation side; `confusion` has a row an actual class.

    A published bundle has the matrix in confusion.csv, those of before have it here.
    """

    error_rate: float = math.nan
    accuracy: float = math.nan
    by_class: tuple[ClassMetrics, ...] = ()
    confusion: tuple[tuple[Count, ...], ...] = ()
    valid_loss: float = math.nan
