"""How ranks train one network: fastai's distributed context, mended where it falls short.

    with distributed_training(learn, settings.image_size):
        train_epochs(learn, settings, rate, None)

Needs the process group that training/rank.py makes. Each rank has its share of every step; torch's
DistributedDataParallel makes one gradient of them; on GPUs batch norm sees all images of a step.
"""

import contextlib
import functools
import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from fastai.data.core import TfmdDL
    from fastai.distributed import DistributedDL
    from fastai.learner import Learner


@contextlib.contextmanager
def distributed_training(learn: "Learner", side: int) -> Iterator[None]:
    """For the block, a learner whose network and images are shared with the other ranks.

    `side` is that of the square images which the network is shown.
    """
    from accelerate.utils import DistributedDataParallelKwargs
    from fastai import distributed  # noqa: F401 (it gives Learner distrib_ctx)

    gpu = learn.dls.device.type == "cuda"
    # Without it torch waits for the gradients of every weight. Asked for only where it is needed:
    # it walks the graph of every step once more, and complains where it finds nothing.
    spare = DistributedDataParallelKwargs(find_unused_parameters=has_unused(learn.model, side))
    if gpu:  # a CPU has no batch norm over all ranks
        if learn.opt is None:  # which knows batch norm from other layers only before
            learn.create_opt()
        learn.model = synchronised(learn.model)
    shared_out = functools.partial(_shared_out, device=learn.dls.device)
    with learn.distrib_ctx(sync_bn=False, cpu=not gpu, kwargs_handlers=[spare]):
        learn.distributed_trainer._wrap_dl = shared_out
        yield


def synchronised(network: "torch.nn.Module") -> "torch.nn.Module":
    """The network with batch norm over all ranks, the same weights by the same names.

    timm's converter leaves its own layers their activation; torch's, which fastai takes, drops it.
    """
    if find_spec("timm"):
        from timm.layers import convert_sync_batchnorm as convert  # type: ignore[attr-defined]
    else:
        from torch.nn import SyncBatchNorm

        convert = SyncBatchNorm.convert_sync_batchnorm
    converted: torch.nn.Module = convert(network)  # type: ignore[no-untyped-call]
    return converted


def has_unused(network: "torch.nn.Module", side: int) -> bool:
    """Whether some weights have no part in the answer, as the heads that timm leaves in a body.

    Leaves the network as it was: weights, gradients, and what of it is frozen.
    """
    import torch

    weights = [*network.parameters()]
    frozen, training = [one for one in weights if not one.requires_grad], network.training
    network.eval().requires_grad_(True)
    try:
        answer = network(torch.zeros(1, 3, side, side, device=weights[0].device))
        found = torch.autograd.grad(answer.sum(), weights, allow_unused=True)
    finally:
        network.train(training)
        for one in frozen:
            one.requires_grad_(False)
    return any(one is None for one in found)


def _shared_out(loader: "TfmdDL", device: "torch.device") -> "DistributedDL":
    kind = sharded_loader_class()
    return loader if isinstance(loader, kind) else kind(loader, device=device)


@functools.cache
def sharded_loader_class() -> "type[DistributedDL]":
    """fastai's loader of a rank's share, without the GPU it shares out by, and of a true length."""
    import torch
    from fastai.distributed import DistributedDL

    class SharedOut(DistributedDL):  # type: ignore[misc]  # fastai has no types
        def _broadcast(self, order: list[int], rank: int) -> list[int]:
            told = [order]
            torch.distributed.broadcast_object_list(told, rank)
            return told[0]

        def __len__(self) -> int:
            """How many steps come: fastai may say one more, and one cycle would never end."""
            images: int = math.ceil(self.dl.n / self.world_size)
            steps: int = images // self.bs if self.drop_last else math.ceil(images / self.bs)
            return steps

        def wif(self) -> None:
            """What a loader process does first: what it does for one GPU."""
            self.dl.wif()

    return SharedOut
