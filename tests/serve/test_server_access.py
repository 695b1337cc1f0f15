"""The Host check, for every spelling of a name; tests/e2e has a real server."""

import asyncio

import httpx
import pytest

from visionflows.serve.server import HostCheck
from visionflows.serve.settings import UpSettings


def status(host: str, asked: str, url: str = "") -> int:
    """The status of a request with this Host header to a server on `host`."""

    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> int:
        transport = httpx.ASGITransport(HostCheck(app, host, url))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get("/api/health", headers={"host": asked})).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "host, asked",
    [
        ("MyBox", "mybox:4200"),
        ("MyBox", "MYBOX:4200"),
        ("mybox.", "mybox.:4200"),
        ("mybox", "mybox.:4200"),
        ("FD00:0:0::7", "[fd00::7]:4200"),
        ("192.0.2.7", "192.0.2.7:4200"),
    ],
)
def test_host_names_are_normalized(host, asked):
    assert status(host, asked) == 200
    assert status("127.0.0.1", asked) == 400
    assert status("127.0.0.1", asked, f"https://{asked}") == 200


def test_the_host_setting_is_lower_case():
    assert UpSettings(host="MyBox").host == "mybox"
