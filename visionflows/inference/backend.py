"""What an engine computes with: device, kernel, precision and library versions."""

from typing import NamedTuple

from visionflows.versioned_json import JsonObject


class Backend(JsonObject):
    """What computed a row. Rows of two backends may differ in their last digits.

    `device` is a name without counts, such as `cpu: AMD EPYC 9354`. `kernel` names whose
    convolutions ran, and `versions` has the version of each library that decodes or computes.
    """

    device: str
    precision: str
    kernel: str
    versions: dict[str, str]

    @property
    def description(self) -> str:
        """The backend on one line."""
        versions = " ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.device}, {self.precision}, {self.kernel}, {versions}"


class EngineInfo(NamedTuple):
    """An engine's properties; an engine on this machine and the actors of a cluster both have them.

    `device_name` is the device with its counts, such as `cpu: AMD EPYC 9354, 2 cores`. Files beyond
    `limits` are `too_large`; the limits in bytes depend on the machine's memory.
    `overrides_decoding` is true if large images are decoded otherwise than in training.
    """

    backend: Backend
    device_name: str
    batch_size: int
    limits: dict[str, int]
    overrides_decoding: bool
