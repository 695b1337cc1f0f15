"""Precision policy: when scoring may use a faster precision than float32 by default."""

import bisect
from collections.abc import Mapping

from visionflows.evaluation.statistics import is_rate_below
from visionflows.models.schema import ModelInfo

MIN_AGREEMENT = 0.995  # of the labels must agree with float32 …
CONFIDENCE = 0.95  # … shown with this confidence
_MAX_IMAGES = 10**7  # more than any measurement has


def supports(images: int, disagreements: int) -> bool:
    """Whether these counts show that at least 99.5 % of the labels agree.

    That is 598 images without a disagreement, or 947 with one.
    """
    rate = 1 - MIN_AGREEMENT
    if images > _MAX_IMAGES or not 0 <= disagreements <= rate * images:
        return False
    return is_rate_below(disagreements, images, rate, CONFIDENCE)


def images_needed(disagreements: int) -> int:
    """The fewest images that support a precision with so many disagreements."""
    return bisect.bisect_left(
        range(_MAX_IMAGES), True, key=lambda images: supports(images, disagreements)
    )


def choose_precision(info: ModelInfo, wanted: str, kernels: Mapping[str, str]) -> str:
    """The precision to score in; `auto` is the fastest one that the model supports.

    `kernels` has the native kernel of each faster precision on this machine, the fastest first.
    """
    if wanted != "auto":
        return wanted
    names = (name for name, kernel in kernels.items() if is_supported(info, name, kernel))
    return next(names, "float32")


def is_supported(info: ModelInfo, precision: str, kernel: str) -> bool:
    """Whether a model's label agreement with float32 supports a precision with this kernel.

    The agreement must be measured with the same kernel. The version of its library does not
    matter: one that computes otherwise fails the self-check.
    """
    agreement = {"bfloat16": info.precision.agreement, "int8": info.precision.int8}[precision]
    if agreement is None or agreement.auto != precision:
        return False
    if not supports(agreement.images, agreement.disagreements):
        return False
    return bool(kernel) and agreement.kernel == kernel
