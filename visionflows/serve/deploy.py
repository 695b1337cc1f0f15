"""A prefect.yaml on a server: applied when it changed, so that what people changed in the UI stays.

    apply(Path("deployments/prefect.yaml"), os.environ, Path("deployments.log"))

The server remembers, in its variable `visionflows_applied`, which file was applied last by which
version, and how what it describes was then. Schedules, parameters and limits that people change
afterwards stay until the file itself changes; what is then reset is said. What else the server
holds, and how much of it, is no matter.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import yaml

from visionflows.serve.api import api
from visionflows.serve.settings import POOL, UpError

log = logging.getLogger("visionflows.up")

_MEMORY = "visionflows_applied"
_LONGEST = 5000  # characters that a variable of Prefect's may have
_PLACES = ("VISIONFLOWS_STORE", "VISIONFLOWS_FOLDER")
# What of a deployment a file says and people change; ids, dates and versions are no one's wish.
_FIELDS = (
    *("parameters", "schedules", "paused", "tags", "description", "job_variables"),
    *("work_pool_name", "concurrency_options", "enforce_parameter_schema"),
)
_OF_A_SCHEDULE = ("schedule", "active", "parameters", "slug", "max_scheduling_horizon")
Known = dict[str, dict[str, Any]]  # a thing on the server, by kind and name, and its fields


def apply(file: Path, env: Mapping[str, str], output: Path) -> None:
    """Bring the server to what the file says, unless that was done and the file is the same.

    Store and folder are this start's, in any case. Raises UpError where Prefect refuses the file.
    """
    locations = [env.get(name, "") for name in _PLACES]
    digest, names = hashlib.sha256(file.read_bytes()).hexdigest(), _names(file)
    with api(env, timeout=60) as server:
        applied = _remembered(server)
        if [applied.get("file"), applied.get("version")] == [digest, _version()]:
            _move(server, applied["places"], locations)
            log.info("%s is as it was applied; what was changed in the UI stays", file)
        else:
            log.info("applying %s", file)
            before = _known(server, names, applied.get("places", locations))
            _deploy(file, env, output)
            after = _known(server, names, locations)
            for line in resets(before, after, applied.get("fields")):
                log.warning("reset as the file has it: %s", line)
            applied = {"file": digest, "version": _version(), "fields": _prints(after)}
        if applied.get("places") != locations:
            _remember(server, {**applied, "places": locations})


def resets(before: Known, after: Known, fields: Mapping[str, str] | None) -> Iterator[str]:
    """A line for each thing that people had changed since `fields`, and that now is otherwise.

    Where nothing is remembered (None), everything that was there and is otherwise now is told.
    """
    prints = _prints(before)
    for name, now in after.items():
        if name not in before:
            if fields and name in fields:
                yield f"{name}: there again; it had been deleted"
            continue
        changed = [field for field in now if now[field] != before[name].get(field)]
        if fields is not None:
            was, had = fields.get(name, prints[name]), before[name]
            changed = [field for field in changed if _digest(field, had.get(field)) not in was]
        if changed:
            yield f"{name}: {', '.join(changed)}"


def _deploy(file: Path, env: Mapping[str, str], output: Path) -> None:
    with output.open("wb") as told:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "visionflows.serve.deploy", file.name],
            env=dict(env),
            cwd=file.absolute().parent,  # Prefect looks for the file in its own folder
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=subprocess.STDOUT,
        )
    if ended.returncode:
        raise UpError(last_words(output, "the deployments were not applied"))


def last_words(output: Path, what: str) -> str:
    """The last line that a program said, as the end of a sentence about what happened to it."""
    lines = [
        line
        for line in output.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    return f"{what}: {lines[-1].strip() if lines else 'it said nothing'} (all of it: {output})"


def _names(file: Path) -> set[str]:
    """Each `name` in the file, of whatever it is one. Raises UpError where it is no YAML."""
    try:
        return set(_named(yaml.safe_load(file.read_text(encoding="utf-8"))))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UpError(f"{file}: no YAML ({' '.join(str(error).split())}); correct it") from error


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["name"]] if isinstance(value.get("name"), str) else []
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _named(item)


def _known(server: httpx.Client, names: set[str], locations: list[str]) -> Known:
    """The server's deployments, rules and limits of these names, and the rules and limits of ours.

    Its places are told as their settings.
    """
    flows = {flow["id"]: flow["name"] for flow in _all(server, "flows")}
    known: Known = {}
    for one in _all(server, "deployments"):
        if one["name"] not in names:
            continue
        name = f"{flows.get(one['flow_id'], '?')}/{one['name']}"
        fields = {field: one.get(field) for field in _FIELDS}
        fields["job_variables"] = _replaced(fields["job_variables"], locations, list(_PLACES))
        kept = [{field: item.get(field) for field in _OF_A_SCHEDULE} for item in one["schedules"]]
        fields["schedules"] = sorted(kept, key=_text)
        known[name] = fields
    for one in _ours(server, "automations", names):
        trigger = {key: value for key, value in one["trigger"].items() if key != "id"}
        for key in ("expect", "after", "for_each"):  # sets, whose order means nothing
            trigger[key] = sorted(trigger.get(key) or [])
        known[f"rule {one['name']}"] = {"trigger": trigger, "actions": one["actions"]}
    for one in _ours(server, "v2/concurrency_limits", names):
        known[f"limit {one['name']}"] = {"limit": one["limit"]}
    return known


def _ours(server: httpx.Client, kind: str, names: set[str]) -> list[dict[str, Any]]:
    return [
        one
        for one in _all(server, kind)
        if one["name"] in names or one["name"].startswith("visionflows")
    ]


def _all(server: httpx.Client, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        answer = server.post(f"/{kind}/filter", json={"offset": len(found), "limit": 100})
        answer.raise_for_status()
        found += answer.json()
        if len(answer.json()) < 100:
            return found


def _prints(known: Known) -> dict[str, str]:
    """Of each thing, the digests of its fields: short ones, for a variable does not hold much."""
    return {
        name: " ".join(_digest(field, value) for field, value in fields.items())
        for name, fields in known.items()
    }


def _digest(field: str, value: object) -> str:
    return hashlib.sha256(f"{field} {_text(value)}".encode()).hexdigest()[:6]


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _replaced(value: Any, old: list[str], new: list[str]) -> Any:
    """`value` with each of the old texts replaced by its new one, however deep it lies."""
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return dict(zip(old, new, strict=True)).get(value, value) if isinstance(value, str) else value


def _move(server: httpx.Client, old: list[str], new: list[str]) -> None:
    """Let the deployments' runs work with another store, and in another folder, than before."""
    if old == new:
        return
    for one in _all(server, "deployments"):
        variables = _replaced(one["job_variables"], old, new)
        if variables != one["job_variables"]:
            body = {"job_variables": variables}
            server.patch(f"/deployments/{one['id']}", json=body).raise_for_status()


def _remembered(server: httpx.Client) -> dict[str, Any]:
    answer = server.get(f"/variables/name/{_MEMORY}")
    if answer.status_code == 404:
        return {}
    answer.raise_for_status()
    value = answer.json()["value"]
    return value if isinstance(value, dict) and isinstance(value.get("places"), list) else {}


def _remember(server: httpx.Client, applied: dict[str, Any]) -> None:
    """Let the server know it the next time; of a file with very many deployments, without fields.

    Whatever another such file makes different is told then, be it people's wish or not.
    """
    if len(json.dumps(applied)) > _LONGEST:
        applied = {key: value for key, value in applied.items() if key != "fields"}
    body = {"name": _MEMORY, "value": applied, "tags": ["visionflows"]}
    answer = server.patch(f"/variables/name/{_MEMORY}", json=body)
    if answer.status_code == 404:
        answer = server.post("/variables/", json=body)
    answer.raise_for_status()


def _version() -> str:
    return metadata.version("visionflows")


def _main(name: str) -> None:
    from visionflows.serve.provision import ensure_pool

    ensure_pool(POOL)
    command = ("--no-prompt", "deploy", "--all", "--prefect-file", name)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "visionflows.cli.prefect", *command])


if __name__ == "__main__":
    _main(sys.argv[1])
