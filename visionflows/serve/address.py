"""Where the server listens, and by what names it is asked for.

port = free_port("127.0.0.1", 4200)
shown("0.0.0.0", port)           # http://this-machine:4200
"""

import contextlib
import errno
import ipaddress
import socket

import httpx

from visionflows.serve.settings import UpError


def free_port(host: str, port: int) -> int:
    """A port that nothing listens on: this one, or any where it is 0. Raises UpError if taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UpError(
                f"{host}:{port}: {_occupant(host, port, error)}; stop that, or give another "
                "--port (0: any free one)"
            ) from error
        return int(probe.getsockname()[1])


def local(host: str, port: int) -> str:
    """The URL by which this machine itself reaches the server."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{_bracketed(reached)}:{port}"


def shown(host: str, port: int) -> str:
    """The URL that people are told."""
    return f"http://{_bracketed(socket.gethostname() if is_any(host) else host)}:{port}"


def is_any(host: str) -> bool:
    """Whether it stands for every address of this machine."""
    return host in ("0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _occupant(host: str, port: int, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot be listened on ({error.strerror})"
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(f"http://{_bracketed(host)}:{port}/api/health", timeout=2)
        if answer.status_code in (200, 401):
            return "a Prefect server runs there already"
    return "another program listens there already"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
