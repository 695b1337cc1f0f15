"""A network by the name of its architecture, the same for training and for scoring.

fastai's `vision_learner` cuts an architecture before its pooling and adds its own head, which the
recipes `auto` and `probe` replace by one linear layer. `build` makes the same layers without
importing fastai (20 seconds), so that weights trained there load here. The artifact's self-check
verifies that both give the same probabilities. Names are torchvision's, and timm's if timm is
installed.
"""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast

from visionflows.errors import SettingsError, one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

# `fastai`: its create_head, with a hidden layer. `linear`: mean pooling and one linear layer.
Head = Literal["fastai", "linear"]

_DYNAMO = "torch._dynamo.utils"
# How many of an architecture's children are its body: fastai's model_meta (fastai.vision.learner).
# Others are cut before their last pooling layer.
_CUTS = {"resnet": -2, "squeezenet": -1, "densenet": -1, "vgg": -2, "alexnet": -2}
# These cannot be cut: their forward does more than call their children in order. The body is the
# network without its last linear layer, and the head does not pool again.
_UNCUT = ("googlenet", "inception_v3", "maxvit_t", "mnasnet", "mobilenet_v2", "vit_")
_AUXILIARY = ("googlenet", "inception_v3")  # return a tuple in training
_AUXILIARY_CLASSIFIERS = {"aux1", "aux2", "AuxLogits"}
_SIZED = ("vit_", "maxvit_t")  # built for one image size


def check_architecture(name: str) -> None:
    """Do nothing if `name` is an architecture that can be built. Raises SettingsError."""
    if is_torchvision(name):
        return
    if importlib.util.find_spec("timm") is None:
        names, extra = torchvision_names(), "; for timm's, pip install 'visionflows[timm]'"
    else:
        import timm

        if timm.is_model(name):
            return
        names, extra = timm.list_models(), ""
    close = ", ".join(difflib.get_close_matches(name, names, 3)) or "resnet34"
    raise SettingsError(f"{name}: no such architecture; did you mean {close}?{extra}")


def check_trainable(architecture: str, image_size: int) -> None:
    """Do nothing if an architecture and fastai's head accept images of that size.

    Raises SettingsError. Some architectures are built for one size, reduce a small image to
    nothing, or return features with channels last, such as timm's Swin.
    """
    import torch

    check_architecture(architecture)
    try:
        network = build(architecture, 2, image_size).eval()
        with torch.inference_mode():
            network(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise SettingsError(
            f"{architecture}: cannot be trained on images of {image_size} pixels "
            f"({one_line(str(error))}); give another --image-size or --arch"
        ) from error


def is_torchvision(name: str) -> bool:
    """Whether torchvision has a classification network of that name."""
    return name in torchvision_names()


def torchvision_names() -> list[str]:
    """The names of torchvision's classification networks."""
    models = import_torchvision_models()
    return cast("list[str]", models.list_models(module=models))


def import_torchvision_models() -> ModuleType:
    """torchvision.models, imported in one second instead of six.

    torchvision (ops/roi_align) imports one function of torch._dynamo, which it calls only when that
    layer is compiled. During the import a stand-in module takes its place and forwards such calls.
    """
    if "torchvision" in sys.modules or _DYNAMO in sys.modules:
        return importlib.import_module("torchvision.models")
    stand_in = ModuleType(_DYNAMO)
    vars(stand_in)["is_compile_supported"] = lambda device: importlib.import_module(
        _DYNAMO
    ).is_compile_supported(device)
    sys.modules[_DYNAMO] = stand_in
    try:
        return importlib.import_module("torchvision.models")
    finally:
        del sys.modules[_DYNAMO]


def backbone(architecture: str, image_size: int, weights: str | None = None) -> "nn.Module":
    """A torchvision network with its own classifier; `weights` is None or "DEFAULT"."""
    models = import_torchvision_models()
    options: dict[str, Any] = {}
    if architecture.startswith("maxvit_t"):
        options["input_size"] = (image_size, image_size)
    elif architecture.startswith(_SIZED):
        options["image_size"] = image_size
    if architecture in _AUXILIARY and weights is None:
        options |= {"init_weights": True, "aux_logits": False}
    model: Any = models.get_model(architecture, weights=weights, **options)
    if architecture in _AUXILIARY:
        model.transform_input = True  # as their pretrained weights expect
        model.aux_logits = False  # the weights come with these classifiers, and only with them
        for name in _AUXILIARY_CLASSIFIERS & {*dict(model.named_children())}:
            setattr(model, name, None)
    return cast("nn.Module", model)


def body_cut(architecture: str) -> "int | Callable[[nn.Module], nn.Module] | None":
    """The `cut` to pass to fastai: a number, a function, or None if fastai finds it."""
    if architecture.startswith(_UNCUT):
        return _without_last_linear
    return next((cut for name, cut in _CUTS.items() if architecture.startswith(name)), None)


def pools_itself(architecture: str) -> bool:
    """Whether the body returns pooled features: one row for each image."""
    return architecture.startswith(_UNCUT)


def uncut_features(architecture: str, image_size: int) -> int:
    """The number of features of an architecture that cannot be cut."""
    return _last_linear(backbone(architecture, image_size))[2].in_features


def build(
    architecture: str, classes: int, image_size: int, head: Head = "fastai"
) -> "nn.Sequential":
    """The network that is trained for this architecture, weights still random.

    Input (batch, 3, image_size, image_size), output logits (batch, classes).
    """
    from torch import nn

    if is_torchvision(architecture):
        model = backbone(architecture, image_size)
        if pools_itself(architecture):
            features = _last_linear(model)[2].in_features
            body, pool = _without_last_linear(model), False
        else:
            body = nn.Sequential(*list(model.children())[: _cut_index(architecture, model)])
            features, pool = _channels(body, image_size), True
    else:
        body = _timm_body(architecture)
        features, pool = body.model.num_features, body.needs_pool
    make = linear_head if head == "linear" else _fastai_head
    return nn.Sequential(body, make(features, classes, pool=pool))


def split_pooling(head: "nn.Sequential") -> "tuple[nn.Sequential, nn.Sequential]":
    """A head in two: its pooling (empty if the body pools) and the layers after it."""
    from torch import nn

    layers = list(head)
    after = nn.BatchNorm1d, nn.Linear
    pooled = next(at for at, layer in enumerate(layers) if isinstance(layer, after))
    return nn.Sequential(*layers[:pooled]), nn.Sequential(*layers[pooled:])


def linear_head(features: int, classes: int, *, pool: bool) -> "nn.Sequential":
    """The head of a linear probe: the mean of every feature, and one linear layer."""
    from torch import nn

    pooling = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pool else []
    return nn.Sequential(*pooling, nn.Linear(features, classes))


def activate(logits: "torch.Tensor", multi_label: bool) -> "torch.Tensor":
    """The probabilities of logits (n, classes): of each class by itself, or of one of them."""
    return logits.sigmoid() if multi_label else logits.softmax(1)


def fold_batch_norm(network: "nn.Module") -> "nn.Module":
    """The network for inference with each batch norm folded into the convolution before it.

    It computes the same with fewer passes over memory. A network that torch.fx cannot trace, since
    its forward branches on data, is returned unchanged.
    """
    import torch.fx
    from torch.fx.experimental.optimization import fuse

    try:
        return fuse(network.eval())
    except (torch.fx.proxy.TraceError, TypeError, AttributeError, NotImplementedError):
        return network.eval()


def _cut_index(architecture: str, model: "nn.Module") -> int:
    cut = body_cut(architecture)
    if isinstance(cut, int):
        return cut
    kinds = [{type(part).__name__ for part in child.modules()} for child in model.children()]
    pooling = ("Pool1d", "Pool2d", "Pool3d")
    return max(at for at, names in enumerate(kinds) if any(one.endswith(pooling) for one in names))


def _channels(body: "nn.Module", image_size: int) -> int:
    import torch

    with torch.inference_mode():
        body.eval()
        side = max(image_size, 64)
        return cast("torch.Tensor", body(torch.zeros(1, 3, side, side))).shape[1]


def _fastai_head(features: int, classes: int, *, pool: bool) -> "nn.Sequential":
    """fastai's `create_head` with its defaults: 512 hidden units, dropout 0.25 and 0.5."""
    from torch import nn

    inputs = features * 2 if pool else features
    return nn.Sequential(
        *([_concat_pool(), nn.Flatten()] if pool else []),
        *(nn.BatchNorm1d(inputs), nn.Dropout(0.25), nn.Linear(inputs, 512, bias=False)),
        nn.ReLU(inplace=True),
        *(nn.BatchNorm1d(512), nn.Dropout(0.5), nn.Linear(512, classes, bias=False)),
    )


def _concat_pool() -> "nn.Module":
    import torch
    from torch import nn

    class AdaptiveConcatPool2d(nn.Module):
        """fastai's pooling: the largest and the mean of every feature, in that order."""

        def __init__(self) -> None:
            super().__init__()
            self.ap, self.mp = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.mp(x), self.ap(x)], 1)

    return AdaptiveConcatPool2d()


def _timm_body(architecture: str) -> Any:
    import timm
    import torch
    from torch import nn

    class TimmBody(nn.Module):
        """fastai's body of a timm network: its features, before pooling if it pools."""

        def __init__(self) -> None:
            super().__init__()
            model: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
            self.model: Any = model
            self.needs_pool: bool = model.default_cfg.get("pool_size") is not None

        def forward(self, x: torch.Tensor) -> Any:
            return self.model.forward_features(x) if self.needs_pool else self.model(x)

    return TimmBody()


def _last_linear(model: "nn.Module") -> tuple["nn.Module", str, "nn.Linear"]:
    from torch import nn

    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    parent, _, child = names[-1].rpartition(".")
    last = cast("nn.Linear", model.get_submodule(names[-1]))
    return model.get_submodule(parent), child, last


def _without_last_linear(model: "nn.Module") -> "nn.Module":
    from torch import nn

    parent, child, _ = _last_linear(model)
    setattr(parent, child, nn.Identity())
    return model
