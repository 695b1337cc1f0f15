"""The learner of a distributed training: fastai's context, with workarounds.

Each worker gets its share of every batch. torch's DistributedDataParallel averages the gradients;
on GPUs batch norm uses the images of all workers.
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
def distributed_training(learn: "Learner") -> Iterator[None]:
    """Inside the block the learner shares its network and images with the other workers.

    Needs the process group of visionflows.training.distributed.worker.
    """
    from accelerate.utils import DistributedDataParallelKwargs
    from fastai import distributed  # noqa: F401 (it gives Learner distrib_ctx)

    gpu = learn.dls.device.type == "cuda"
    # Some weights may not affect the output: timm leaves a head in the body. torch finds them in
    # the first step; without this it would wait for their gradients.
    options = DistributedDataParallelKwargs(static_graph=True)
    if gpu:  # torch has no synchronised batch norm for CPUs
        if learn.opt is None:  # it must see the batch norm layers before they are converted
            learn.create_opt()
        learn.model = synchronise_batch_norm(learn.model)
    loader_class = sharded_loader_class()

    def shard(loader: "TfmdDL") -> "DistributedDL":
        is_sharded = isinstance(loader, loader_class)
        return loader if is_sharded else loader_class(loader, device=learn.dls.device)

    with learn.distrib_ctx(sync_bn=False, cpu=not gpu, kwargs_handlers=[options]):
        learn.distributed_trainer._wrap_dl = shard
        yield


def synchronise_batch_norm(network: "torch.nn.Module") -> "torch.nn.Module":
    """Return the network with batch norm over all workers; weights and names stay the same.

    Uses timm's converter if it is installed: torch's drops the activation of timm's own layers.
    """
    if find_spec("timm"):
        from timm.layers import convert_sync_batchnorm as convert  # type: ignore[attr-defined]
    else:
        from torch.nn import SyncBatchNorm

        convert = SyncBatchNorm.convert_sync_batchnorm
    converted: torch.nn.Module = convert(network)  # type: ignore[no-untyped-call]
    return converted


@functools.cache
def sharded_loader_class() -> "type[DistributedDL]":
    """Return fastai's loader of a worker's share, for CPUs too and with its true length."""
    import torch
    from fastai.distributed import DistributedDL

    class ShardedLoader(DistributedDL):  # type: ignore[misc]  # fastai has no types
        def _broadcast(self, order: list[int], rank: int) -> list[int]:
            objects = [order]
            torch.distributed.broadcast_object_list(objects, rank)
            return objects[0]

        def __len__(self) -> int:
            """Return the number of steps; fastai may say one more, and one cycle never ends."""
            images: int = math.ceil(self.dl.n / self.world_size)
            steps: int = images // self.bs if self.drop_last else math.ceil(images / self.bs)
            return steps

        def wif(self) -> None:
            """Start a loader process as for one GPU."""
            self.dl.wif()

    return ShardedLoader
