"""What model.json holds: everything that is known of a model besides its weights.

    from visionflows.models.schema import ModelInfo
    ModelInfo.read(place("store/models/pets/…").read("model.json")).classes

A name that is not known here is kept as it is: another version may have more to say of a model, and
what changes the meaning of the rest raises the version.
"""

import math
from collections import Counter
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat, field_validator

from visionflows.images.decode_options import Decode, DecodeOptions, Decoding, Depth, Transparency
from visionflows.images.resize import ResizeMethod
from visionflows.models.metrics_schema import (
    Agreement,
    Calibration,
    DecodeAgreement,
    Deviation,
    Metrics,
    Onnx,
    Open,
    Outliers,
    Precision,
)
from visionflows.storage.base import invalid_name_reason
from visionflows.versioned_json import Count, SchemaError, Sha256, VersionedJson

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


def _file_name(name: str) -> str:
    fault = invalid_name_reason(name)
    if fault:
        raise ValueError(f"{name!a} {fault}")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]


class Normalise(Open):
    """Mean and standard deviation of a channel each, of pixels from 0 to 1."""

    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[Deviation, Deviation, Deviation]


class Corrections(Open):
    """What people's corrections (visionflows.training.apply_corrections) made of a dataset: images, each
    content once.

    `taken` of them have the label that a person gave, `changed` of these another one than in the
    dataset, `imported` are not in it; `left_out` are none of the classes, `lost` were not found.
    """

    files: list[str] = Field(default_factory=list)
    taken: Count = 0
    changed: Count = 0
    imported: Count = 0
    left_out: Count = 0
    lost: Count = 0
    in_validation: bool = False


class LabelIssues(Open):
    """How many of the images that were judged have a label that is probably wrong, by the features
    of the `pretrained` or the `fine-tuned` network: visionflows.training.evidence.label_issues."""

    images: Count = 0
    found: Count = 0
    features: str = ""


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


class ModelInfo(VersionedJson):
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
    # How files become pixels (images.decode_options): the defaults are what models from before saw.
    transparency: Transparency = "dropped"
    depth: Depth = "guessed"
    decode: Decode = "full"
    decode_agreement: DecodeAgreement | None = None
    onnx: Onnx | None = None
    normalise: Normalise
    labels: str = ""
    precision: Precision = Precision()
    dataset: DatasetInfo = DatasetInfo()
    label_issues: LabelIssues | None = None
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
        """What a published model.json says. Raises SchemaError."""
        info = super().read(data)
        if "files" not in info.model_fields_set:
            raise SchemaError("lacks files")
        return info

    def with_onnx(self, found: dict[str, Any]) -> Self:
        """The same, with what is known of model.onnx."""
        return self.model_copy(update={"onnx": Onnx.model_validate(found)})

    def with_agreement(self, found: dict[str, Any], name: str = "agreement") -> Self:
        """The same, with what was found of a faster precision: bfloat16, or `int8` by name."""
        agreement = Agreement.model_validate(found)
        precision = self.precision.model_copy(update={name: agreement})
        return self.model_copy(update={"precision": precision})

    def with_label_issues(self, found: dict[str, Any]) -> Self:
        """The same, with how many labels are probably wrong."""
        return self.model_copy(update={"label_issues": LabelIssues.model_validate(found)})

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

    def decode_options(self, decoding: Decoding = "auto") -> DecodeOptions:
        """How files become pixels; `decoding` overrules how large ones are decoded."""
        decode = self.decode if decoding == "auto" else decoding
        side = self.image_size if decode == "scaled" else None
        return DecodeOptions(self.transparency, self.depth, side)

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
