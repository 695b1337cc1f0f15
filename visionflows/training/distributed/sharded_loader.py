"""fastai's loader of a worker's share, at the top of a module so that it can be pickled.

Import this module inside functions only; see visionflows.training.dataloaders.
"""

import math

import torch
from fastai.distributed import DistributedDL


class ShardedLoader(DistributedDL):  # type: ignore[misc]  # fastai has no types
    """fastai's DistributedDL, for CPUs too and with its true length."""

    def _broadcast(self, order: list[int], rank: int) -> list[int]:
        objects = [order]
        torch.distributed.broadcast_object_list(objects, rank)
        return objects[0]

    def __len__(self) -> int:
        """The number of steps; fastai may say one more, and one cycle never ends."""
        images: int = math.ceil(self.dl.n / self.world_size)
        steps: int = images // self.bs if self.drop_last else math.ceil(images / self.bs)
        return steps

    def wif(self) -> None:
        """Start a loader process as for one GPU."""
        self.dl.wif()
