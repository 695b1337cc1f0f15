"""model.json: all that is known of a model but its weights.

Unknown fields are kept. A change in the meaning of a field raises the version.
"""

import math
import re
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    field_validator,
    model_validator,
)

from visionflows.images.decode_options import ColorProfiles, Decode, DecodeOptions, Decoding
from visionflows.images.resize import ResizeMethod
from visionflows.models.metrics_schema import (
    Calibration,
    DecodeAgreement,
    Deviation,
    ExtensibleObject,
    Metrics,
    Onnx,
    Outliers,
    Precision,
    TestMetrics,
)
from visionflows.models.network import Head
from visionflows.storage.base import invalid_name_reason
from visionflows.versioned_json import Count, SchemaError, Sha256, VersionedJson

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
Name = Annotated[str, Field(pattern=f"^{_NAME}$")]


def is_name(text: str) -> bool:
    """Whether a text can name a model, a version or an alias: no path, nothing hidden."""
    return re.fullmatch(_NAME, text) is not None


def parse_alias(content: bytes | None) -> str:
    """The version in an alias file; empty if it holds none."""
    version = (content or b"").decode("ascii", "replace").strip()
    return version if is_name(version) else ""


def _check_file_name(name: str) -> str:
    if fault := invalid_name_reason(name):
        raise ValueError(f"{name!a} {fault}")
    return name


FileName = Annotated[str, AfterValidator(_check_file_name)]


Share = Annotated[float, Field(gt=0, lt=1)]


class Normalise(ExtensibleObject):
    """Mean and standard deviation of each channel, for pixels from 0 to 1."""

    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[Deviation, Deviation, Deviation]


class Corrections(ExtensibleObject):
    """How corrections changed a dataset, in images with different content.

    `taken` have the label that a person gave, `changed` of them another than in the dataset, and
    `imported` are not in it. `left_out` are none of the classes, and `lost` were not found. `moved`
    were not corrected, but are trained on as near-duplicates or of the group of ones that were.
    """

    files: list[str]
    taken: Count
    changed: Count
    imported: Count
    left_out: Count
    lost: Count
    moved: Count = 0
    in_validation: bool


class LabelIssues(ExtensibleObject):
    """How many of the examined images probably have a wrong label.

    `features` names the network whose features were used: `pretrained` or `fine-tuned`.
    """

    images: Count
    found: Count
    features: str


class DatasetInfo(ExtensibleObject):
    """The images of a training; `sha256` is that of their archive, None for a folder.

    Test images (`test`) are those with a label that could be opened.
    """

    name: str
    source: str
    sha256: str | None
    fingerprint: str
    images: Count
    train: Count
    valid: Count
    test: Count = 0
    skipped: Count
    corrections: Corrections | None = None


class Split(ExtensibleObject):
    """The split into training and validation images: as given, or drawn with seed and share."""

    given_by: Literal["", "folders", "csv"] = ""
    seed: int | None = None
    valid_pct: float | None = None
    group: str = ""  # the rule of --group


class Lineage(ExtensibleObject):
    """The version that was production at the time, and the flow run; empty if there was none."""

    parent: str = ""
    flow_run: str = ""


class Epoch(ExtensibleObject):
    """Losses and metrics of an epoch."""

    epoch: Count
    phase: str
    train_loss: float = math.nan
    valid_loss: float = math.nan
    error_rate: float = math.nan
    accuracy: float = math.nan
    balanced_accuracy: float = math.nan
    macro_f1: float = math.nan
    micro_f1: float = math.nan
    mean_average_precision: float = math.nan
    seconds: float = 0.0


class CandidateMetrics(ExtensibleObject):
    """A candidate of a training, such as `linear probe` or `epoch 3`, on the selection images."""

    name: str
    error_rate: float
    balanced_accuracy: float = math.nan
    macro_f1: float
    micro_f1: float = math.nan
    mean_average_precision: float = math.nan
    log_loss: float


class Selection(ExtensibleObject):
    """The candidates of a training, and which of them was published, chosen by `metric`.

    They are compared on `images` training images that they were not trained on.
    """

    metric: str
    images: Count
    candidates: tuple[CandidateMetrics, ...]
    published: str
    why: str


class LearningRates(ExtensibleObject):
    """The curve of fastai's lr_find: the loss at each rate, and the rate that it suggests."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float


class Training(ExtensibleObject):
    """How a model was trained."""

    recipe: str = "fastai"
    metric: str = "error_rate"
    balance: str = "none"
    selection: Selection | None = None
    epochs: Count
    augment: str
    keep: str
    patience: Count
    base_lr: float
    lr_find: LearningRates | None = None
    freeze_epochs: Count
    batch_size: Count
    device: str
    mixed_precision: str
    history: tuple[Epoch, ...]
    seconds: float


class NetworkInfo(VersionedJson):
    """The part of model.json that engines need: the network, its input and its outputs.

    A `multi_label` network has a probability for each class by itself. An image gets the labels
    whose calibrated probability is at least that of `decision_thresholds` (by class).
    """

    model_config = ConfigDict(extra="allow")
    VERSION = 1

    name: Name
    version: Name
    architecture: str
    head: Head = "fastai"
    classes: list[str] = Field(min_length=1)
    multi_label: bool = False
    decision_thresholds: tuple[Share, ...] = ()
    image_size: int = Field(ge=1, le=4096)
    resize: ResizeMethod
    decode: Decode
    color_profiles: ColorProfiles = "ignore"
    normalise: Normalise
    onnx: Onnx | None = None
    precision: Precision = Precision()
    calibration: Calibration | None = None
    outliers: Outliers | None = None

    def updated(self, **fields: Any) -> Self:
        """A copy with these fields replaced, and validated."""
        valid = self.model_validate({**self.as_dict(), **fields}, strict=False)
        return self.model_copy(update={name: getattr(valid, name) for name in fields})

    def decode_options(self, decoding: Decoding = "auto") -> DecodeOptions:
        """How files become pixels; `decoding` overrides how large ones are decoded."""
        decode = self.decode if decoding == "auto" else decoding
        side = self.image_size if decode == "scaled" else None
        return DecodeOptions(side, self.color_profiles)

    @field_validator("classes")
    @classmethod
    def _check_unique(cls, classes: list[str]) -> list[str]:
        name, count = Counter(classes).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{name!r} is there {count} times")
        return classes

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        """Thresholds and scales are those of each class of a multi-label network."""
        wanted, scale = len(self.classes) if self.multi_label else 0, ()  # type: int, Any
        if self.calibration:
            scale = self.calibration.scale
        for name, found in (("decision_thresholds", self.decision_thresholds), ("scale", scale)):
            if len(found) not in (0, wanted):
                raise ValueError(f"{name}: {len(found)} values, but needs {wanted}")
        return self


class ModelInfo(NetworkInfo):
    """model.json. A checkpoint's info has no `files` yet, nor what later steps measure."""

    pretrained: str
    decode_agreement: DecodeAgreement | None = None
    labels: str
    label_sep: str = ""
    missing: Literal["error", "skip"] = "error"
    dataset: DatasetInfo
    label_issues: LabelIssues | None = None
    split: Split
    lineage: Lineage = Lineage()
    training: Training
    metrics: Metrics
    test: TestMetrics | None = None
    versions: dict[str, str]
    notes: list[str] = Field(default_factory=list)
    files: dict[FileName, Sha256] = Field(default_factory=dict)

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The content of a published model.json. Raises SchemaError."""
        info = super().read(data)
        if "files" not in info.model_fields_set:
            raise SchemaError("lacks files")
        return info

    def with_agreement(self, agreement: dict[str, Any], name: str = "agreement") -> Self:
        """A copy with the label agreement of a faster precision: bfloat16, or `int8` by name."""
        precision = self.precision.model_dump(exclude_unset=True)
        return self.updated(precision={**precision, name: agreement})
