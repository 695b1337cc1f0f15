"""How to fine-tune: what `visionflows train` takes, what the run form shows, what model.json keeps.

from visionflows.training.settings import TrainSettings
TrainSettings(architecture="resnet18", epochs=3)
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from visionflows.images.decode_options import DecodeOptions, Decoding
from visionflows.images.memory_limits import MAX_PIXELS
from visionflows.images.resize import ResizeMethod


class TrainSettings(BaseModel):
    """How to fine-tune; the defaults are the fastai tutorial's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field("resnet34", description="A torchvision or timm architecture.")
    pretrained: str = Field(
        "default",
        description="`default` downloads the architecture's weights, `none` starts from nothing, "
        "anything else is the place of a state dict (.safetensors or .pth).",
    )
    image_size: int = Field(224, ge=8, le=2048, description="Side of the square shown, in pixels.")
    resize: ResizeMethod = Field("crop", description="How an image becomes that square.")
    epochs: int = Field(1, ge=1, le=1000, description="Epochs after the frozen ones.")
    freeze_epochs: int | None = Field(
        None, ge=0, le=1000, description="Epochs with the body frozen; 1, or 0 without pretrained."
    )
    lr: float | Literal["find"] = Field(
        2e-3, description="Base learning rate, or `find` to let fastai's lr_find choose it."
    )
    batch_size: int = Field(
        64, ge=2, le=4096, description="Images a step; halved when out of memory."
    )
    gpus: int = Field(
        1, ge=1, le=64, description="GPUs of this machine, which share every batch out among them."
    )
    augment: bool = Field(True, description="Flip, rotate, zoom, light: fastai's aug_transforms.")
    seed: int = Field(42, ge=0, description="Seed of split, weights, order and augmentation.")
    patience: int = Field(
        0, ge=0, description="Stop after so many epochs without a better one; 0: never."
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Weights of the best epoch or the last."
    )
    precision: Literal["auto", "float32"] = Field(
        "auto",
        description="`auto` trains in bfloat16 (float16 on older GPUs) where that is native; "
        "`float32` never does.",
    )
    max_pixels: int = Field(
        MAX_PIXELS,
        ge=1,
        description="Images of more pixels, as decoded, are left out; a large JPEG is decoded "
        "smaller, unless `decode` is full.",
    )
    decode: Decoding = Field(
        "auto", description="Large photos whole, or smaller, which is faster; `auto`: smaller."
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="Loader processes, 0 for a thread; by default that for a CPU of up to 4 cores, "
        "otherwise as many as cores and memory allow.",
    )

    @property
    def decode_options(self) -> DecodeOptions:
        """How files become pixels, in training and wherever the model is used."""
        return DecodeOptions(side=None if self.decode == "full" else self.image_size)

    @property
    def frozen_epochs(self) -> int:
        """Epochs with the body frozen: a body of random weights has nothing worth freezing."""
        if self.freeze_epochs is not None:
            return self.freeze_epochs
        return 0 if self.pretrained == "none" else 1

    @property
    def lr_mult(self) -> float:
        """How many times slower the first layers learn: fastai's 100; 1 without pretrained."""
        return 1 if self.pretrained == "none" else 100
