"""Make the Prefect server unavailable during a part of a run.

with server_away():              # in a flow run
    ...                          # requests of the run's client are refused
"""

import contextlib
from collections.abc import Iterator

from prefect.context import SyncClientContext
from prefect.settings import temporary_settings


@contextlib.contextmanager
def server_away() -> Iterator[None]:
    """Point the run's client to a closed port, without retries."""
    client = SyncClientContext.get().client._client
    there, client.base_url = client.base_url, "http://127.0.0.1:9/api"
    try:
        with temporary_settings({"client.max_retries": 0}):
            yield
    finally:
        client.base_url = there
