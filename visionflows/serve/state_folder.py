"""The folder of what the server knows: one server's at a time, and its owner's alone.

with alone(Path("/var/lib/visionflows")):
    ...
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from visionflows.errors import LockedError
from visionflows.serve.settings import UpError
from visionflows.storage.local import LocalStorage

log = logging.getLogger("visionflows.up")

# What we, and Prefect in its PREFECT_HOME, make there.
_MADE = (
    *("up.lock", "server.lock", "logs", "ui", "prefect.db", "storage", "profiles.toml"),
    *("memo_store.toml", "concurrency", "encryption", "events", "workers", "."),
)
UP, SERVER = "up.lock", "server.lock"  # held by `up`; and by the server, for as long as it lives


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """Hold the state folder: two servers on one database would both hand out its runs.

    Raises UpError while another `up`, or a server that one left, has it.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(LocalStorage(state).lock(UP))
            with LocalStorage(state).lock(SERVER):
                pass
        except LockedError as error:
            raise UpError(
                f"{state}: visionflows is up from there already; stop it, or give another --state"
            ) from error
        _close(state)
        yield


def _close(state: Path) -> None:
    """Let only its owner in: the database and its key hold what blocks keep secret.

    A folder that people also use for other things keeps its rights, which is said; the server's
    files in it are closed all the same.
    """
    others = [path.name for path in state.iterdir() if not path.name.startswith(_MADE)]
    try:
        if not others:
            state.chmod(0o700)
        elif state.stat().st_mode & 0o077:
            log.warning("%s: others may enter, for the sake of %s in it", state, sorted(others)[0])
        for database in state.glob("prefect.db*"):
            database.chmod(0o600)
    except OSError as error:
        raise UpError(f"{state}: {error.strerror}; it must belong to who starts this") from error
