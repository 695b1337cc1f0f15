"""What model.json holds: everything that is known of a model besides its weights.

    from visionflows.model.schema import ModelInfo
    ModelInfo.read(place("store/models/pets/…").read("model.json")).classes

A name that is not known here is kept as it is: another version may have more to say of a model, and
what changes the meaning of the rest raises the version.
"""

import math
from collections import Counter
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat, field_validator

from visionflows.images.opening import Decode, Decoding, Depth, Opening, Transparency
from visionflows.images.resize import ResizeMethod
from visionflows.places.base import name_fault
from visionflows.stored import Count, NotSoError, Part, Sha256, Stored

Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


def _file_name(name: str) -> str:
    fault = name_fault(name)
    if fault:
        raise ValueError(f"{name!a} {fault}")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]


class Open(Part):
    """A part that may hold more than is known of it here."""

    model_config = ConfigDict(extra="allow")


class Normalise(Open):
    """Mean and standard deviation of a channel each, of pixels from 0 to 1."""

    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[Deviation, Deviation, Deviation]


class Agreement(Open):
    """How a faster precision compares with float32: visionflows.training.agreement.

    `kernel` is what it was measured by (visionflows.engine.evidence), empty where an older version
    did not say.
    """

    precision: str = ""
    images: Count = 0
    labels: float | None = None
    largest_difference: float = 0.0
    flips: Count = 0
    far_flips: Count = 0
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
    flips: Count = 0
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


class Corrections(Open):
    """What people's corrections (visionflows.training.corrected) made of a dataset: images, each
    content once.

    `taken` of them have the label that a person gave, `changed` of these another one than in the
    dataset, `brought` are not in it; `left_out` are none of the classes, `lost` were not found.
    """

    files: list[str] = Field(default_factory=list)
    taken: Count = 0
    changed: Count = 0
    brought: Count = 0
    left_out: Count = 0
    lost: Count = 0
    in_validation: bool = False


class DatasetInfo(Open):
    """The images a model was made of; `sha256` is their archive's, if it was one."""

    name: str = ""
    source: str = ""
    sha256: str | None = None
    fingerprint: str = ""
    images: Count = 0
    train: Count = 0
    valid: Count = 0
    skipped: Count = 0
    corrections: Corrections | None = None


class Split(Open):
    """How training and validation images were told apart."""

    seed: int = 0
    valid_pct: float = 0.0


class Lineage(Open):
    """What a version comes after: the version that production meant when it was made, and the id
    of the flow run that made it; each empty where there was none, or an older version did not say.
    """

    parent: str = ""
    flow_run: str = ""


class Epoch(Open):
    """Losses and metrics of an epoch."""

    epoch: Count
    phase: str
    train_loss: float = math.nan
    valid_loss: float = math.nan
    error_rate: float = math.nan
    accuracy: float = math.nan
    seconds: float = 0.0


class Training(Open):
    """How a model was trained."""

    epochs: Count = 0
    augment: bool = False
    keep: str = "best"
    patience: Count = 0
    base_lr: float = math.nan
    freeze_epochs: Count = 0
    batch_size: Count = 0
    device: str = ""
    mixed_precision: str = "none"
    history: tuple[Epoch, ...] = ()
    seconds: float = 0.0


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
    """How sure a model may be believed: visionflows.training.calibration.

    `temperature` is what its logits are divided by; the expected calibration errors, and the bins
    behind them, are of `judged` validation images that it was not fitted on.
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
    """What tells pictures of another kind (visionflows.training.outliers), or why nothing does.

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


class ModelInfo(Stored):
    """model.json. Of a draft `files` is not known yet; what is missing beside it has a default."""

    model_config = ConfigDict(extra="allow")
    VERSION = 1

    name: Name
    version: Name
    architecture: str
    pretrained: str = ""
    classes: list[str] = Field(min_length=1)
    image_size: int = Field(ge=1, le=4096)
    resize: ResizeMethod
    exif: str = ""
    # How files become pixels (images.opening): the defaults are what models from before saw.
    transparency: Transparency = "dropped"
    depth: Depth = "guessed"
    decode: Decode = "full"
    decode_agreement: DecodeAgreement | None = None
    onnx: Onnx | None = None
    normalise: Normalise
    labels: str = ""
    precision: Precision = Precision()
    dataset: DatasetInfo = DatasetInfo()
    split: Split = Split()
    lineage: Lineage = Lineage()
    training: Training = Training()
    metrics: Metrics = Metrics()
    calibration: Calibration | None = None
    outliers: Outliers | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    files: dict[FileName, Sha256] = Field(default_factory=dict)

    @classmethod
    def read(cls, data: bytes) -> Self:
        """What a published model.json says. Raises NotSoError."""
        info = super().read(data)
        if "files" not in info.model_fields_set:
            raise NotSoError("lacks files")
        return info

    def with_onnx(self, found: dict[str, Any]) -> Self:
        """The same, with what is known of model.onnx."""
        return self.model_copy(update={"onnx": Onnx.model_validate(found)})

    def with_agreement(self, found: dict[str, Any], name: str = "agreement") -> Self:
        """The same, with what was found of a faster precision: bfloat16, or `int8` by name."""
        agreement = Agreement.model_validate(found)
        precision = self.precision.model_copy(update={name: agreement})
        return self.model_copy(update={"precision": precision})

    def with_decoding(self, found: dict[str, Any]) -> Self:
        """The same, with how answers of large images decoded whole and smaller compare."""
        return self.model_copy(update={"decode_agreement": DecodeAgreement.model_validate(found)})

    def with_outliers(self, found: dict[str, Any]) -> Self:
        """The same, with what tells pictures of another kind."""
        return self.model_copy(update={"outliers": Outliers.model_validate(found)})

    def with_lineage(self, parent: str, flow_run: str) -> Self:
        """The same, with the version that production meant by then, and the flow run."""
        told = {"parent": parent, "flow_run": flow_run}
        return self.model_copy(update={"lineage": Lineage.model_validate(told)})

    def opening(self, decoding: Decoding = "auto") -> Opening:
        """How files become pixels; `decoding` overrules how large ones are decoded."""
        decode = self.decode if decoding == "auto" else decoding
        side = self.image_size if decode == "scaled" else None
        return Opening(self.transparency, self.depth, side)

    def without_confusion(self) -> Self:
        """The same, but for the confusion matrix: 1,000 classes have a million counts."""
        told = self.metrics.model_dump(by_alias=True, exclude_unset=True, exclude={"confusion"})
        metrics = Metrics.model_validate(told, strict=False)
        return self.model_copy(update={"metrics": metrics})

    @field_validator("classes")
    @classmethod
    def _different(cls, classes: list[str]) -> list[str]:
        name, count = Counter(classes).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{name!r} is there {count} times")
        return classes
