"""Apply a prefect.yaml to a server, if the file or visionflows changed since it was last applied.

The server's variable `visionflows_applied` records what was applied. While it is unchanged, changes
made in the UI (schedules, parameters, limits) stay.
"""

import hashlib
import logging
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import httpx
import yaml

from visionflows.serve.api import api_client
from visionflows.serve.child_processes import last_line
from visionflows.serve.settings import POOL, UpError

log = logging.getLogger("visionflows.up")

VARIABLE = "visionflows_applied"


def apply(file: Path, env: Mapping[str, str], output: Path) -> None:
    """Deploy the file to the server in `env`, unless that was done; Prefect's output is a file.

    Raises UpError if the file is no YAML, or Prefect rejects it.
    """
    content = file.read_bytes()
    try:
        yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UpError(f"{file}: not YAML ({' '.join(str(error).split())}); correct it") from error
    applied = f"{hashlib.sha256(content).hexdigest()} {version('visionflows')}"
    with api_client(env, timeout=60) as server:
        recorded = server.get(f"/variables/name/{VARIABLE}")
        if recorded.status_code != 404 and recorded.raise_for_status().json()["value"] == applied:
            log.info("%s is unchanged; changes made in the UI stay", file)
            return
        log.info("applying %s; it overrides changes made in the UI", file)
        _create_pool(server)
        _deploy(file, env, output)
        _write_applied(server, applied)


def _deploy(file: Path, env: Mapping[str, str], output: Path) -> None:
    arguments = ("--no-prompt", "deploy", "--all", "--prefect-file", file.name)
    with output.open("wb") as log_file:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "visionflows.cli.prefect", *arguments],
            env=dict(env),
            cwd=file.absolute().parent,  # Prefect looks for the file in its own folder
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
        )
    if ended.returncode:
        raise UpError(last_line(output, "the deployments were not applied"))


def _create_pool(server: httpx.Client) -> None:
    """Create the work pool, unless there is one of any type; the worker adds its job template."""
    answer = server.post("/work_pools/", json={"name": POOL, "type": "process"})
    if answer.status_code != 409:
        answer.raise_for_status()


def _write_applied(server: httpx.Client, applied: str) -> None:
    body = {"name": VARIABLE, "value": applied, "tags": ["visionflows"]}
    answer = server.patch(f"/variables/name/{VARIABLE}", json=body)
    if answer.status_code == 404:
        answer = server.post("/variables/", json=body)
    answer.raise_for_status()
