"""Snapshots: the state of a training after each epoch, from which a killed one resumes.

    <store>/.checkpoints/<key>/<name>.snapshot     weights, optimizer state and history
    <store>/.checkpoints/<key>/<name>.lr_find      the curve of the learning rate finder

A snapshot is one safetensors file; what is no tensor is JSON in its header. Snapshots are in the
store itself, so that another machine can resume from a bucket.
"""

import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Any

from visionflows.errors import StorageError
from visionflows.storage import open_storage

if TYPE_CHECKING:
    import torch
    from fastai.learner import Learner

log = logging.getLogger("visionflows.checkpoint")

SUFFIXES = (".snapshot", ".lr_find")
NETWORK, BEST, OPTIMIZER = "network.", "best.", "optimizer."  # prefixes of tensors


@dataclasses.dataclass
class Snapshot:
    """The tensors of a training by name; the history; and the rest of its state."""

    tensors: "dict[str, torch.Tensor]"
    history: list[dict[str, Any]]
    state: dict[str, Any]
    is_finished: bool

    @classmethod
    def take(cls, learn: "Learner", history: list[dict[str, Any]], is_finished: bool) -> "Snapshot":
        """The state of a learner after an epoch."""
        from fastai.torch_core import get_model

        weights = get_model(learn.model).state_dict()
        found = {NETWORK + name: value for name, value in weights.items()}
        numbers: list[dict[str, float]] = []
        for at, (parameter, *_) in enumerate(learn.opt.all_params()):
            numbers.append({})
            for name, value in learn.opt.state[parameter].items():
                if hasattr(value, "cpu"):
                    found[f"{OPTIMIZER}{at}.{name}"] = value
                else:
                    numbers[at][name] = value
        smooth, scaler = learn.recorder.smooth_loss, getattr(learn, "scaler", None)
        state = {
            "optimizer": numbers,
            "smooth_loss": [smooth.count, float(smooth.val)],
            "scaler": scaler.state_dict() if scaler else {},
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in found.items()}
        return cls(tensors, [*history], state, is_finished)

    def below(self, prefix: str) -> "dict[str, torch.Tensor]":
        """The tensors whose names begin with a prefix, by the rest of their names."""
        names = (name for name in self.tensors if name.startswith(prefix))
        return {name.removeprefix(prefix): self.tensors[name] for name in names}

    def restore(self, learn: "Learner", only_weights: bool = False) -> None:
        """Give a learner, which is in a fit, the weights and the rest of the state."""
        import torch
        from fastai.torch_core import get_model

        get_model(learn.model).load_state_dict(self.below(NETWORK))
        if only_weights:
            return
        for at, (parameter, *_) in enumerate(learn.opt.all_params()):
            tensors = self.below(f"{OPTIMIZER}{at}.")
            on_device = {name: value.to(parameter.device) for name, value in tensors.items()}
            learn.opt.state[parameter] = {**self.state["optimizer"][at], **on_device}
        smooth = learn.recorder.smooth_loss
        smooth.count, value = self.state["smooth_loss"]
        smooth.val = torch.tensor(value)
        if self.state["scaler"]:
            learn.scaler.load_state_dict(self.state["scaler"])


@dataclasses.dataclass(frozen=True)
class SnapshotFile:
    """Where a training keeps its snapshot: a folder or an s3:// URI, and a name in it.

    `settings` identify the training: a snapshot of other settings is not read.
    """

    location: str
    name: str
    settings: str

    def read(self) -> Snapshot | None:
        """The snapshot; None if there is none, or only a damaged one or one of other settings."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            data = open_storage(self.location).read(f"{self.name}.snapshot")
            length = int.from_bytes(data[:8], "little")
            header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["training"])
            if header.pop("settings") != self.settings:
                return None
            return Snapshot(load(data), **header)
        except FileNotFoundError:
            return None
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            log.warning("%s/%s.snapshot: damaged, not used: %s", self.location, self.name, error)
            return None

    def write(self, snapshot: Snapshot) -> None:
        """Replace the snapshot, in one rename or one put; where that fails, only a log line."""
        from safetensors.torch import save

        fields = ("history", "state", "is_finished")
        header = {"settings": self.settings, **{name: getattr(snapshot, name) for name in fields}}
        data = save(snapshot.tensors, {"training": json.dumps(header)})
        try:
            open_storage(self.location).write(f"{self.name}.snapshot", data)
        except StorageError as error:  # it only saves time after a crash
            log.warning("no snapshot of this epoch: %s", error)

    def read_curve(self) -> dict[str, Any] | None:
        """What `write_curve` wrote; None if there is nothing."""
        try:
            curve: dict[str, Any] = json.loads(
                open_storage(self.location).read(f"{self.name}.lr_find")
            )
        except FileNotFoundError:
            return None
        return curve

    def write_curve(self, curve: dict[str, Any]) -> None:
        """Keep the curve of the learning rate finder, so that a resumed training has its rate."""
        open_storage(self.location).write(f"{self.name}.lr_find", json.dumps(curve).encode())
