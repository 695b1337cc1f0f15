"""The server's API, as `up` itself calls it: without importing Prefect.

with api(env) as server:
    server.post("/flow_runs/filter", json={}).json()
"""

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping

import httpx

from visionflows.serve.settings import USER


class _Patient(httpx.HTTPTransport):
    """Asks again where the server says 503: its SQLite is locked for a moment, as under load."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for pause in (0.2, 0.5, 1.0):
            response = super().handle_request(request)
            if response.status_code != 503:
                return response
            response.close()
            time.sleep(pause)
        return super().handle_request(request)


@contextlib.contextmanager
def api(env: Mapping[str, str], timeout: float = 5.0) -> Iterator[httpx.Client]:
    """A client of the server that `env` names, with its password and a token for changes.

    Raises httpx.HTTPError where the server does not answer.
    """
    _, _, password = env.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (USER, password) if password else None
    url, me = env["PREFECT_API_URL"], str(uuid.uuid4())
    patient = _Patient()  # a transport of one's own asks no proxy either
    with httpx.Client(base_url=url, auth=auth, timeout=timeout, transport=patient) as client:
        token = client.get("/csrf-token", params={"client": me})
        if token.status_code != 422:  # 422: a server without that protection
            token.raise_for_status()
            client.headers["Prefect-Csrf-Token"] = token.json()["token"]
            client.headers["Prefect-Csrf-Client"] = me
        yield client
