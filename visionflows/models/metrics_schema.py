"""Metrics in model.json: accuracy, calibration, outlier detection, and precision."""

import math
from typing import Annotated

from pydantic import ConfigDict, Field, FiniteFloat

from visionflows.versioned_json import Count, JsonObject, VersionedJson

Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ExtensibleObject(JsonObject):
    """An object that keeps fields this version does not know."""

    model_config = ConfigDict(extra="allow")


class Agreement(ExtensibleObject):
    """Label agreement of a faster precision with float32, and the precision that `auto` uses.

    `why` says why that is float32. `kernel` and `library` computed the faster precision;
    `trained_on` of the images were training images. Disagreements are far if they are no near ties.
    If the publishing machine has no native kernel, only `auto` and `why` are set.
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
    auto: str
    why: str = ""
    speed: float | None = None  # of int8: how many times that of bfloat16 or float32


class DecodeAgreement(ExtensibleObject):
    """Label agreement of large images decoded full and scaled."""

    images: Count
    disagreements: Count
    largest_difference: float
    mean_difference: float


class Onnx(ExtensibleObject):
    """model.onnx: opset, largest difference from fastai's probabilities; or why there is none."""

    opset: Count = 0
    largest_difference: float = 0.0
    why: str = ""


class Precision(ExtensibleObject):
    """The precision of training, and the label agreement of faster precisions in scoring."""

    trained: str = "none"
    agreement: Agreement | None = None  # of bfloat16
    int8: Agreement | None = None


class ClassMetrics(ExtensibleObject):
    """Metrics of a class, with Wilson's 95 % intervals.

    Precision is None if nothing was predicted as it, recall if it has no validation image. With
    several labels a photo there is the average precision too, unless recall is None.
    """

    class_: str = Field(alias="class")
    precision: float | None
    precision_interval: tuple[float, float] | None = None
    recall: float | None
    recall_interval: tuple[float, float] | None = None
    average_precision: float | None = None
    count: Count


class Bin(ExtensibleObject):
    """A bin of the reliability diagram: number of images, mean confidence, accuracy."""

    count: Count
    confidence: float
    accuracy: float


class Calibration(ExtensibleObject):
    """Calibration: `temperature` divides the logits, and `bias` is then added to them.

    They were fitted on `fitted` validation images. Without class weights there is no bias. With
    several labels a photo the probability of a class is the sigmoid of scale * logit + bias.
    Expected calibration errors and bins are of `tested` images, each with a calibration fitted on
    others. `why` says why there is no calibration.
    """

    temperature: Deviation = 1.0
    scale: tuple[Deviation, ...] = ()  # by class
    bias: tuple[FiniteFloat, ...] = ()  # by class
    fitted: Count = 0
    tested: Count = 0
    ece_raw: float | None = None
    ece: float | None = None
    bins_raw: tuple[Bin, ...] = ()
    bins: tuple[Bin, ...] = ()
    why: str = ""

    @property
    def changes_probabilities(self) -> bool:
        """Whether calibrated probabilities differ from the network's."""
        return self.temperature != 1 or bool(self.scale)


class Outliers(ExtensibleObject):
    """Outlier detection, or why the model has none.

    An image with a distance above `threshold` is an outlier. The threshold was set on `fitted`
    validation images for a share of `wanted` false alarms. `false_alarms` is their share among
    `tested` other images, by precision.
    """

    method: str = ""
    k: int = Field(0, ge=0)
    components: Count = 0
    images: Count = 0
    threshold: float | None = Field(None, gt=0)
    wanted: float = 0.0
    fitted: Count = 0
    tested: Count = 0
    false_alarms: dict[str, float] = Field(default_factory=dict)
    why: str = ""


class Metrics(ExtensibleObject):
    """Metrics of the validation images.

    `confusion` has actual class, predicted class and images of each pair of classes that has some.
    It is known while a model is published, and is in confusion.csv, not in model.json.

    With several labels a photo, `accuracy` is the share of images with all their labels and no
    other (exact match). `confusion` then counts images that lack the first class and got the second
    one instead, or have a class right, and `together` images with both classes.
    """

    error_rate: float
    accuracy: float
    interval: tuple[float, float] | None = None  # Wilson's 95 % interval of the accuracy
    balanced_accuracy: float = math.nan
    macro_f1: float = math.nan
    micro_f1: float = math.nan
    mean_average_precision: float = math.nan
    by_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[Count, Count, Count], ...] = Field((), exclude=True)
    together: tuple[tuple[Count, Count, Count], ...] = Field((), exclude=True)
    valid_loss: float | None = None

    @property
    def of_several_labels(self) -> bool:
        """Whether the images have several labels."""
        return math.isfinite(self.mean_average_precision)


class TestMetrics(ExtensibleObject):
    """Metrics of the test images: nothing was trained, validated or chosen on them.

    `counts` are images by status; only those that are `ok` are evaluated. `ece` and `bins` are the
    calibration of their confidence. If none is evaluated, there are only `counts` and `why`.
    """

    counts: dict[str, Count]
    metrics: Metrics | None = None
    ece: float | None = None
    bins: tuple[Bin, ...] = ()
    why: str = ""


class EvaluationResult(VersionedJson):
    """evaluation.json: a model's metrics on labelled images that it was not trained on.

    `counts` are images by status; only those that are `ok` are evaluated. `ece` and `bins` are the
    calibration of their confidence.
    """

    VERSION = 1

    model: str
    digest: str
    source: str
    labels: str
    evaluated: str  # ISO 8601
    counts: dict[str, Count]
    metrics: Metrics
    ece: float
    bins: tuple[Bin, ...]
