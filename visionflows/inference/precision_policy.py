"""How much agreement lets scoring take the faster precision by itself, and on which machines.

    from visionflows.inference.precision_policy import carries, precision_of
    carries(images=598, flips=0)                     # True: the least that shows 99.5 %

One rule for whoever measures (training/agreement.py) and whoever believes it (the engines).
"""

import bisect
from collections.abc import Mapping

from visionflows.evaluation.statistics import at_most
from visionflows.models.schema import ModelInfo

LEAST = 0.995  # of the labels must agree …
CONFIDENCE = 0.95  # … and it must be this sure that they do
_PLENTY = 10**7  # images: more than was ever asked, or any number of flips that is told of takes


def supports(images: int, disagreements: int) -> bool:
    """Whether so few flips among so many images show that 99.5 % of the labels agree.

    The upper bound on the rate of flips, exact binomial, one-sided at 95 % (C. J. Clopper and E. S.
    Pearson, Biometrika 26, 1934), is at most 0.5 %: were the rate 0.5 %, so few flips or fewer
    would be seen in no more than 5 % of such samples. 598 images without a flip, 947 with one.
    """
    if (
        images > _PLENTY or not 0 <= disagreements <= (1 - LEAST) * images
    ):  # no count of ours; too often
        return False
    return at_most(disagreements, images, 1 - LEAST) <= 1 - CONFIDENCE


def needed(disagreements: int) -> int:
    """The fewest images that carry the claim with so many flips among them."""
    return bisect.bisect_left(
        range(_PLENTY), True, key=lambda images: supports(images, disagreements)
    )


def precision_of(info: ModelInfo, wanted: str, kernels: Mapping[str, str]) -> str:
    """The precision to score in: `auto` is the fastest that the model has evidence for here.

    `kernels` has what computes each of the faster ones natively on this machine, the fastest first.
    """
    if wanted != "auto":
        return wanted
    fit = (precision for precision, kernel in kernels.items() if allowed(info, precision, kernel))
    return next(fit, "float32")


def allowed(info: ModelInfo, precision: str, kernel: str) -> bool:
    """Whether a model (its model.json) may be scored so by `kernel` without being told to.

    Only by the kernel that the evidence was measured with: records from before OpenVINO computed,
    whose kernels are no longer there, count for nothing. The record's version of a library is there
    to be read: one that computes otherwise fails the self-check of every load.
    """
    found = {"bfloat16": info.precision.agreement, "int8": info.precision.int8}[precision]
    if found is None or found.auto != precision or not supports(found.images, found.disagreements):
        return False
    return bool(kernel) and found.kernel == kernel
