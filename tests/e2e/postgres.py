"""Run a temporary PostgreSQL in a folder, as a user other than root.

with running_postgres(postgres_binaries(), Path("/tmp/pg")) as url:
    ...  # postgresql+asyncpg://prefect:…@127.0.0.1:41323/prefect
"""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path


def postgres_binaries() -> Path | None:
    """The folder of the newest installed initdb; Debian does not add it to the PATH."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    found = newest or (Path(found) if (found := shutil.which("initdb")) else None)
    return found.parent if found else None


@contextlib.contextmanager
def running_postgres(binaries: Path, folder: Path) -> Iterator[str]:
    """A server on a free port of 127.0.0.1 for the block, and the URL of its database `prefect`."""
    password, port = secrets.token_hex(8), _free_port()
    (folder / "password").write_text(password)
    _own(folder)
    data = folder / "data"
    initdb = ("--username", "prefect", "--auth", "scram-sha-256", "--no-sync", "--encoding", "UTF8")
    _run(binaries, "initdb", *initdb, "--pwfile", folder / "password", "--pgdata", data)
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off -c max_connections=200"
    start = ("--log", folder / "log", "--options", options, "start")
    _run(binaries, "pg_ctl", "--wait", "--pgdata", data, *start)
    try:
        login = f"postgresql://prefect:{password}@127.0.0.1:{port}"
        _run(binaries, "psql", f"{login}/postgres", "--command", "CREATE DATABASE prefect")
        yield f"{login.replace('postgresql', 'postgresql+asyncpg', 1)}/prefect"
    finally:
        _run(binaries, "pg_ctl", "--wait", "--pgdata", data, "--mode", "immediate", "stop")


def _run(binaries: Path, program: str, *arguments) -> None:
    """Run as `postgres` or `nobody` if we are root, because PostgreSQL refuses root."""
    options = {"user": _user(), "group": _user(), "extra_groups": []} if os.geteuid() == 0 else {}
    # No pipe for a start: the server would inherit it from pg_ctl and keep it open.
    out = subprocess.DEVNULL if "start" in arguments else subprocess.PIPE
    command = [str(binaries / program), *map(str, arguments)]
    subprocess.run(command, check=True, stdout=out, stderr=out, text=True, cwd="/", **options)


def _user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _own(folder: Path) -> None:
    folder.chmod(0o700)
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, _user())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
