"""The address of the server: a free port, and its URLs."""

import contextlib
import errno
import ipaddress
import socket

import httpx

from visionflows.serve.settings import UpError


def free_port(host: str, port: int) -> int:
    """The port, or any free one if it is 0. Raises UpError if it is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UpError(
                f"{host}:{port}: {_describe_conflict(host, port, error)}; stop that, or give "
                "another --port (0: any free one)"
            ) from error
        return int(probe.getsockname()[1])


def local_url(host: str, port: int) -> str:
    """The URL by which this machine reaches the server."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return str(httpx.URL(scheme="http", host=reachable, port=port))


def public_url(host: str, port: int) -> str:
    """The URL to show to people."""
    shown = socket.gethostname() if is_any(host) else host
    return str(httpx.URL(scheme="http", host=shown, port=port))


def is_any(host: str) -> bool:
    """Whether it means every address of this machine."""
    return host in ("0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _describe_conflict(host: str, port: int, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot listen ({error.strerror})"
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(f"{local_url(host, port)}/api/health", timeout=2)
        if answer.status_code in (200, 401):
            return "a Prefect server is running there already"
    return "another program listens there already"
