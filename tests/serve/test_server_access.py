"""By which names a server is asked for, however they are written; in e2e, a real one."""

import asyncio

import httpx
import pytest

from visionflows.serve.server import HostCheck
from visionflows.serve.settings import UpSettings


def status(host: str, asked: str, url: str = "") -> int:
    """What who asks by this name is answered by a server that was told to listen on `host`."""

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
def test_a_name_is_the_same_however_it_is_written(host, asked):
    assert status(host, asked) == 200
    assert status("127.0.0.1", asked) == 400
    assert status("127.0.0.1", asked, f"https://{asked}") == 200


def test_what_is_started_is_told_a_name_as_clients_send_it():
    assert UpSettings(host="MyBox").host == "mybox"
