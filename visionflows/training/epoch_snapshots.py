"""Snapshots: the state of a training after each epoch, from which a killed one resumes.

    <store>/.checkpoints/<key>/<name>.snapshot     weights, optimizer state and history
    <store>/.checkpoints/<key>/<name>.lr_find      the curve of the learning rate finder
    <store>/.checkpoints/<key>/batch_size          a batch that fits into GPU memory

A snapshot is one safetensors file, with everything but the tensors as JSON in its header. Snapshots
are in the store itself, so that another machine can resume from a bucket.
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

SNAPSHOT = ".snapshot"
FILES = (SNAPSHOT, ".lr_find", "batch_size")  # suffixes
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

    def tensors_of(self, prefix: str) -> "dict[str, torch.Tensor]":
        """The tensors whose names begin with a prefix, by the rest of their names."""
        names = (name for name in self.tensors if name.startswith(prefix))
        return {name.removeprefix(prefix): self.tensors[name] for name in names}

    def restore(self, learn: "Learner", only_weights: bool = False) -> None:
        """Give a learner, which is in a fit, the weights and the rest of the state."""
        import torch
        from fastai.torch_core import get_model

        get_model(learn.model).load_state_dict(self.tensors_of(NETWORK))
        if only_weights:
            return
        for at, (parameter, *_) in enumerate(learn.opt.all_params()):
            tensors = self.tensors_of(f"{OPTIMIZER}{at}.")
            on_device = {name: value.to(parameter.device) for name, value in tensors.items()}
            learn.opt.state[parameter] = {**self.state["optimizer"][at], **on_device}
        smooth = learn.recorder.smooth_loss
        smooth.count, value = self.state["smooth_loss"]
        smooth.val = torch.tensor(value)
        if self.state["scaler"] and hasattr(learn, "scaler"):  # another device may need none
            learn.scaler.load_state_dict(self.state["scaler"])


@dataclasses.dataclass(frozen=True)
class _StoredFile:
    """A file beside a checkpoint: a folder or an s3:// URI, and a name in it.

    `key` identifies the training: the file of another one is not read.
    """

    location: str
    name: str
    key: str

    def read_bytes(self) -> bytes | None:
        """The content; None if there is none. Raises StorageError if it cannot be read."""
        try:
            return open_storage(self.location).read(self.name)
        except FileNotFoundError:
            return None
        except OSError as error:  # starting again would waste what the snapshot has
            raise StorageError(
                f"{self.location}/{self.name}: cannot be read ({error}); run again"
            ) from error

    def write_bytes(self, data: bytes) -> None:
        """Replace the content, in one rename or one put. A failure is logged, not raised."""
        try:
            open_storage(self.location).write(self.name, data)
        except (StorageError, OSError) as error:  # snapshots only save time after a kill
            log.warning("a kill would lose this epoch: %s/%s: %s", self.location, self.name, error)


class SnapshotFile(_StoredFile):
    """The file with the snapshot of a training."""

    def read(self) -> Snapshot | None:
        """The snapshot; None if there is none, or a damaged one, or one of another training.

        Raises StorageError if it cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        data = self.read_bytes()
        if data is None:
            return None
        try:
            length = int.from_bytes(data[:8], "little")
            header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["training"])
            return Snapshot(load(data), **header) if header.pop("key") == self.key else None
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            log.warning("%s/%s: damaged, not used: %s", self.location, self.name, error)
            return None

    def write(self, snapshot: Snapshot) -> None:
        """Replace the snapshot."""
        from safetensors.torch import save

        fields = ("history", "state", "is_finished")
        header = {"key": self.key, **{name: getattr(snapshot, name) for name in fields}}
        self.write_bytes(save(snapshot.tensors, {"training": json.dumps(header)}))

    def copy(self, location: str) -> "SnapshotFile":
        """Copy the snapshot, if there is one, to another location; return it there."""
        target = dataclasses.replace(self, location=location)
        if data := self.read_bytes():
            target.write_bytes(data)
        return target


class Note(_StoredFile):
    """A JSON value beside the snapshots, such as the curve of lr_find."""

    def read(self) -> Any:
        """The value; None if there is none, or one of another training. Raises StorageError."""
        try:
            found = json.loads(self.read_bytes() or b"{}")
        except ValueError:  # damaged
            return None
        return found.get("value") if found.get("key") == self.key else None

    def write(self, value: Any) -> None:
        """Replace the value."""
        self.write_bytes(json.dumps({"key": self.key, "value": value}).encode())
