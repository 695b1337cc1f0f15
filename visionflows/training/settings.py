"""Training settings: options of `visionflows train`, fields of the run form, part of model.json."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from visionflows.images.decode_options import DecodeOptions, Decoding
from visionflows.images.memory_limits import MAX_PIXELS
from visionflows.images.resize import ResizeMethod


class TrainSettings(BaseModel):
    """How to fine-tune; the defaults are those of the fastai tutorial."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = Field("resnet34", description="Name of a torchvision or timm architecture.")
    pretrained: str = Field(
        "default",
        description="`default` downloads the pretrained weights, `none` starts from random "
        "weights; anything else is the PATH_OR_URI of a state dict (.safetensors or .pth).",
    )
    image_size: int = Field(
        224, ge=8, le=2048, description="Side in pixels of the square image the network gets."
    )
    resize: ResizeMethod = Field("crop", description="How an image becomes a square.")
    epochs: int = Field(1, ge=1, le=1000, description="Epochs after the body is unfrozen.")
    freeze_epochs: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Epochs with a frozen body; default 1, or 0 without pretrained weights.",
    )
    lr: float | Literal["find"] = Field(
        2e-3, description="Base learning rate; `find` uses fastai's lr_find."
    )
    batch_size: int = Field(
        64, ge=2, le=4096, description="Images per step; halved when GPU memory runs out."
    )
    gpus: int = Field(
        1, ge=1, le=64, description="GPUs of this machine to train on; they share each batch."
    )
    augment: bool = Field(
        True, description="Flip, rotate, zoom and light changes (fastai's aug_transforms)."
    )
    seed: int = Field(42, ge=0, description="Seed of split, weights, image order and augmentation.")
    patience: int = Field(
        0, ge=0, description="Stop after this many epochs without a lower error rate; 0: never."
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="Publish the weights of the epoch with the lowest error rate, or of the last.",
    )
    precision: Literal["auto", "float32"] = Field(
        "auto",
        description="`auto` uses mixed precision (bfloat16, or float16 on older GPUs) where the "
        "hardware supports it; `float32` never does.",
    )
    max_pixels: int = Field(
        MAX_PIXELS,
        ge=1,
        description="Skip images with more pixels than this. A large JPEG is decoded downscaled "
        "first, unless `decode` is full.",
    )
    decode: Decoding = Field(
        "auto",
        description="Decode large photos downscaled (faster) or in full; `auto` is downscaled.",
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="Dataloader processes; 0 uses a thread. Default: a thread when training on a "
        "CPU of up to 4 cores, else as many processes as cores and memory allow.",
    )

    @property
    def decode_options(self) -> DecodeOptions:
        """How files are decoded to pixels, in training and wherever the model is used."""
        return DecodeOptions(side=None if self.decode == "full" else self.image_size)

    @property
    def frozen_epochs(self) -> int:
        """Epochs with a frozen body; none by default for random weights."""
        if self.freeze_epochs is not None:
            return self.freeze_epochs
        return 0 if self.pretrained == "none" else 1

    @property
    def lr_mult(self) -> float:
        """How many times slower the first layers learn: fastai's 100; 1 without pretrained."""
        return 1 if self.pretrained == "none" else 100
