"""Training settings: options of `visionflows train`, fields of the run form, part of model.json."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from visionflows.errors import SettingsError
from visionflows.images.decode_options import ColorProfiles, DecodeOptions, Decoding
from visionflows.images.memory_limits import MAX_PIXELS
from visionflows.images.resize import ResizeMethod
from visionflows.models.network import Head

Recipe = Literal["auto", "probe", "fastai"]
Metric = Literal[
    "error_rate", "balanced_accuracy", "macro_f1", "micro_f1", "mean_average_precision"
]
Balance = Literal["none", "sqrt", "full"]
Augment = Literal["none", "light", "default", "strong"]
# The metrics of a model that gives one label, or several (True); the first is the default.
METRICS: dict[bool, tuple[Metric, ...]] = {
    False: ("error_rate", "balanced_accuracy", "macro_f1"),
    True: ("mean_average_precision", "micro_f1", "macro_f1"),
}
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TrainSettings(BaseModel):
    """How to train. Fields that are not given get the defaults of their recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    architecture: str = "resnet34"
    """Name of a torchvision or timm architecture."""
    pretrained: str = "default"
    """`default` downloads the pretrained weights, `none` starts from random weights; anything else
    is the PATH_OR_URI of a state dict (.safetensors or .pth)."""
    recipe: Recipe | None = None
    """`auto`: a linear probe, then fine-tuning from it, and the better of both is published.
    `probe`: only the linear probe. `fastai`: fine_tune, as in fastai's tutorial. Default: auto with
    pretrained weights, else fastai."""
    metric: Metric | None = None
    """Decides which candidate of a training is published, and whether a retrained model is
    promoted. One label a photo: `error_rate` (the default), `balanced_accuracy` or `macro_f1`;
    several: `mean_average_precision` (the default), `micro_f1` or `macro_f1`."""
    balance: Balance = "none"
    """Weigh images of rare classes more: `full` gives every class the same weight, `sqrt` is
    between `full` and `none`."""
    image_size: int = Field(224, ge=8, le=2048)
    """Side in pixels of the square image the network gets."""
    resize: ResizeMethod = "crop"
    """How an image becomes a square."""
    epochs: int | None = Field(None, ge=1, le=1000)
    """Epochs after the body is unfrozen; default 4 with recipe auto, else 1."""
    freeze_epochs: int | None = Field(None, ge=0, le=1000)
    """Epochs with a frozen body (recipe fastai); default 1, or 0 without pretrained weights."""
    lr: Rate | Literal["find"] | None = None
    """Base learning rate; `find` uses fastai's lr_find. Default 0.0003 with recipe auto, else
    0.002."""
    batch_size: int = Field(64, ge=2, le=4096)
    """Images per step; halved when GPU memory runs out."""
    gpus: int = Field(1, ge=1, le=64)
    """GPUs of this machine to train on; they share each batch."""
    augment: Augment = "default"
    """How strongly images are rotated, zoomed, warped and brightened at random; `default` is
    that of fastai's aug_transforms."""
    flip: bool = True
    """Also mirror images at random, left and right."""
    label_smoothing: float | None = Field(None, ge=0, lt=1)
    """Share of each label that is spread over all classes. Default 0.1 with recipe auto, else 0;
    always 0 with several labels a photo."""
    mixup: float = Field(0, ge=0, le=10)
    """Blend pairs of images (fastai's MixUp, its alpha); 0: never."""
    weight_decay: float = Field(0.01, ge=0, le=10)
    """Decoupled weight decay of Adam."""
    seed: int = Field(42, ge=0)
    """Seed of split, weights, image order and augmentation."""
    patience: int = Field(0, ge=0)
    """Stop after this many epochs without improvement; 0: never."""
    keep: Literal["best", "last"] | None = None
    """Publish the weights of the best epoch, chosen on a part of the training images, or of the
    last. Default: best with recipe auto, else last."""
    precision: Literal["auto", "float32"] = "auto"
    """`auto` uses mixed precision (bfloat16, or float16 on older GPUs) where the hardware supports
    it; `float32` never does."""
    max_pixels: int = Field(MAX_PIXELS, ge=1)
    """Skip images with more pixels than this. A large JPEG is decoded downscaled first, unless
    `decode` is full."""
    decode: Decoding = "auto"
    """Decode large photos `scaled` (downscaled, faster) or `full`; `auto`: scaled."""
    color_profiles: Literal["auto", "convert", "ignore"] = "auto"
    """`convert` photos that declare another color space, such as Display P3, to sRGB, or `ignore`
    it; `auto` converts, but not with recipe fastai, as fastai does not."""
    workers: int | None = Field(None, ge=0)
    """Dataloader processes; 0 uses a thread. Default: a thread when training on a CPU of up to 4
    cores, else as many processes as cores and memory allow."""

    @property
    def decode_options(self) -> DecodeOptions:
        """How files are decoded to pixels, in training and wherever the model is used."""
        side = None if self.decode == "full" else self.image_size
        return DecodeOptions(side, self.color_conversion)

    @property
    def color_conversion(self) -> ColorProfiles:
        """Whether colours are converted; the recipe counts as given, as it may be a default."""
        if self.color_profiles == "auto":
            return "ignore" if self.recipe == "fastai" else "convert"
        return self.color_profiles

    @property
    def head(self) -> Head:
        """The network's head: fastai's, or the linear layer of the probe."""
        return "fastai" if self._recipe == "fastai" else "linear"

    @property
    def _recipe(self) -> Recipe:
        return self.recipe or ("fastai" if self.pretrained == "none" else "auto")

    @property
    def network_fields(self) -> dict[str, Any]:
        """The fields of model.json that say how the network is built, and gets its images."""
        fields = {name: getattr(self, name) for name in ("architecture", "image_size", "resize")}
        decode = "scaled" if self.decode_options.side else "full"
        return fields | {
            "head": self.head,
            "decode": decode,
            "color_profiles": self.color_conversion,
        }

    @property
    def deciding_metric(self) -> Metric:
        """The metric, or the default of one label a photo as long as none is given."""
        return self.metric or METRICS[False][0]

    @property
    def lr_mult(self) -> float:
        """How many times slower the first layers learn: fastai's 100; 1 without pretrained."""
        return 1 if self.pretrained == "none" else 100

    def resolved(self, multi_label: bool | None = False) -> Self:
        """These settings with the defaults of their recipe instead of None.

        `multi_label`, whether a photo has several labels, is None as long as that is unknown: then
        `metric` and `label_smoothing` stay as given. Raises SettingsError if settings contradict
        each other.
        """
        from_scratch, recipe = self.pretrained == "none", self._recipe
        if recipe != "fastai" and from_scratch:
            raise SettingsError(f"recipe {recipe}: needs pretrained weights; give recipe fastai")
        if self.keep == "last" and (recipe == "auto" or self.patience):
            reason = "recipe auto" if recipe == "auto" else "--patience"
            raise SettingsError(
                f"keep last: {reason} chooses the best epoch; leave one of them out"
            )
        if recipe != "fastai" and self.freeze_epochs:
            raise SettingsError(
                f"freeze_epochs {self.freeze_epochs}: only recipe fastai has frozen epochs, and "
                f"this is {recipe}; leave one of them out"
            )
        defaults = {
            "recipe": recipe,
            "epochs": 4 if recipe == "auto" else 1,
            "freeze_epochs": 1 if recipe == "fastai" and not from_scratch else 0,
            "lr": 3e-4 if recipe == "auto" else 2e-3,
            # Stopping early chooses too.
            "keep": "best" if recipe == "auto" or self.patience else "last",
        }
        if multi_label is not None:
            self._check_labels(multi_label)
            defaults |= {
                "metric": METRICS[multi_label][0],
                "label_smoothing": 0.1 if recipe == "auto" and not multi_label else 0.0,
            }
        missing = {key: value for key, value in defaults.items() if getattr(self, key) is None}
        return self.model_copy(update={**missing, "color_profiles": self.color_conversion})

    def _check_labels(self, multi_label: bool) -> None:
        """Raises SettingsError if a setting has no meaning for one label, or several, a photo."""
        labels, known = "several labels" if multi_label else "one label", METRICS[multi_label]
        if self.metric and self.metric not in known:
            wanted = f"{', '.join(known[:-1])} or {known[-1]}"
            raise SettingsError(f"metric {self.metric}: with {labels} a photo, give {wanted}")
        if multi_label and self.balance != "none":
            raise SettingsError(
                f"balance {self.balance}: with several labels a photo each class has its own "
                "decision threshold instead; leave it out"
            )
        if multi_label and self.label_smoothing:
            raise SettingsError(
                f"label_smoothing {self.label_smoothing}: with several labels a photo there is no "
                "share to spread over the other classes; leave it out"
            )
