"""A client of the Prefect server's API that does not import Prefect."""

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping

import httpx

from visionflows.serve.settings import USER


class _RetryTransport(httpx.HTTPTransport):
    """Retries a 503: under load, the server's SQLite is locked for a moment."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for pause in (0.2, 0.5, 1.0):
            response = super().handle_request(request)
            if response.status_code != 503:
                return response
            response.close()
            time.sleep(pause)
        return super().handle_request(request)


@contextlib.contextmanager
def api_client(env: Mapping[str, str], timeout: float = 5.0) -> Iterator[httpx.Client]:
    """A client of the server in `env`, with its password and a CSRF token.

    Raises httpx.HTTPError if the server does not answer.
    """
    _, _, password = env.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (USER, password) if password else None
    url, client_id = env["PREFECT_API_URL"], str(uuid.uuid4())
    transport = _RetryTransport()  # an explicit transport uses no proxy
    with httpx.Client(base_url=url, auth=auth, timeout=timeout, transport=transport) as client:
        token = client.get("/csrf-token", params={"client": client_id})
        if token.status_code != 422:  # 422: the server has CSRF protection disabled
            token.raise_for_status()
            client.headers["Prefect-Csrf-Token"] = token.json()["token"]
            client.headers["Prefect-Csrf-Client"] = client_id
        yield client
