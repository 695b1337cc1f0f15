"""What a run shows in the UI is worth no run: a server that is away costs a warning.

if not shown("the progress", lambda: update_progress_artifact(artifact, progress=50.0)):
    ...                          # it did not take it
"""

import logging
from collections.abc import Callable

log = logging.getLogger("visionflows.server")


def shown(what: str, show: Callable[[], object], warn: bool = True) -> bool:
    """Whether the server took what `show` sends it; that it did not is warned of, and no error."""
    import httpx
    from prefect.exceptions import PrefectException

    try:
        show()
    except (httpx.HTTPError, PrefectException) as error:
        kind = type(error).__name__  # its text may hold the URL, and what is secret in it
        if warn:
            log.warning("%s is not in the UI: the server did not take it (%s)", what, kind)
        return False
    return True
