"""A Prefect server that is away for a part of a run.

with server_away():              # in a flow run
    ...                          # what the run's own client asks is refused, as nothing listens
"""

import contextlib
from collections.abc import Iterator

from prefect.context import SyncClientContext
from prefect.settings import temporary_settings


@contextlib.contextmanager
def server_away() -> Iterator[None]:
    """Nothing listens where the run looks for its server; its client does not try for a minute."""
    client = SyncClientContext.get().client._client
    there, client.base_url = client.base_url, "http://127.0.0.1:9/api"
    try:
        with temporary_settings({"client.max_retries": 0}):
            yield
    finally:
        client.base_url = there
