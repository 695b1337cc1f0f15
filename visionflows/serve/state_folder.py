"""The state folder of `visionflows up`: one server at a time, readable by its owner only."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from visionflows.errors import LockedError
from visionflows.serve.settings import UpError
from visionflows.storage.local import LocalStorage

log = logging.getLogger("visionflows.up")

# Names that `up`, and Prefect in its PREFECT_HOME, create there.
_OWN_NAMES = (
    *("up.lock", "server.lock", "logs", "ui", "prefect.db", "storage", "profiles.toml"),
    *("memo_store.toml", "concurrency", "encryption", "events", "workers", "."),
)
UP, SERVER = "up.lock", "server.lock"  # the locks of `up` and of the server process


@contextlib.contextmanager
def lock_state(state: Path) -> Iterator[None]:
    """Lock the state folder: two servers on one database would both start its runs.

    Raises UpError while another `up`, or a server that one has left, holds it.
    """
    with contextlib.ExitStack() as locks:
        try:
            locks.enter_context(LocalStorage(state).lock(UP))
            with LocalStorage(state).lock(SERVER):
                pass
        except LockedError as error:
            raise UpError(
                f"{state}: visionflows is up with this state already; stop it, or give another "
                "--state"
            ) from error
        _restrict_access(state)
        yield


def _restrict_access(state: Path) -> None:
    """Let only the owner read the database and its key: they hold the secrets of blocks.

    A folder that also has other files keeps its permissions, with a warning.
    """
    others = [path.name for path in state.iterdir() if not path.name.startswith(_OWN_NAMES)]
    try:
        if not others:
            state.chmod(0o700)
        elif state.stat().st_mode & 0o077:
            reason = f"permissions are kept because of other files ({min(others)})"
            log.warning("%s: other users can read it; %s", state, reason)
        for database in state.glob("prefect.db*"):
            database.chmod(0o600)
    except OSError as error:
        raise UpError(f"{state}: {error.strerror}; it must belong to the current user") from error
