"""A prefect.yaml as `visionflows up` reads it, without Prefect: deployments, schedules, rules."""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from visionflows.serve.settings import UpError

LIMIT = "visionflows-gpu"
STEP = "visionflows.serve.provision.provision"


class DeploymentsFile(NamedTuple):
    """What a file asks of the server."""

    file: Path
    digest: str  # of the file and the version of visionflows
    deployments: dict[str, dict[str, Any]]  # the entries of the file, by name and entrypoint
    limited: list[str]  # the deployments (score/score) that share the concurrency limit
    jobs: int  # of that limit
    rules: list[str]

    def record(self) -> dict[str, Any]:
        """What a server remembers of the file: its digest, deployments, slugs and rules."""
        slugs = {
            key: [schedule.get("slug") or "" for schedule in entry.get("schedules") or ()]
            for key, entry in self.deployments.items()
        }
        return {"file": self.digest, "deployments": slugs, "rules": self.rules}


def read_deployments_file(file: Path) -> DeploymentsFile:
    """The content of a file, empty where it has no such part. Raises UpError if it is no YAML."""
    data = file.read_bytes()
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UpError(f"{file}: not YAML ({' '.join(str(error).split())}); correct it") from error
    digest = f"{hashlib.sha256(data).hexdigest()} {version('visionflows')}"
    content = content if isinstance(content, dict) else {}
    entries = [one for one in content.get("deployments") or () if isinstance(one, dict)]
    step = provision_step(content)
    return DeploymentsFile(
        file=file,
        digest=digest,
        deployments={f"{one.get('name')} {one.get('entrypoint')}": one for one in entries},
        limited=step.get("deployments") or [],
        jobs=step.get("jobs", 1),
        rules=[rule["name"] for rule in step.get("rules") or () if "name" in rule],
    )


def provision_step(content: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the build step that creates limit and rules; empty if there is none."""
    steps = content.get("build") or []
    found = (one.get(STEP) for one in steps if isinstance(one, dict))
    return next(filter(None, found), {})
