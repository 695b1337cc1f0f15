"""Objects read over connections that are kept: a signed GET, and what comes back, no more.

    line = Line("https://inbox.s3.eu-central-1.amazonaws.com", (10, 20), "")
    status, headers, data = line.get(signed(…))

Of HTTP/1.1 only what a server needs to send an object whole: anything else is a ValueError, and
the caller asks boto3. The signature is AWS's version 4, which tests compare with botocore's.
"""

import collections
import functools
import hashlib
import hmac
import select
import socket
import ssl
import time
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

from visionflows.content import TooLarge

EMPTY = hashlib.sha256(b"").hexdigest()  # a GET has no body
LONGEST_LINE, MOST_HEADERS = 1 << 16, 100  # as http.client has them


class Keys(NamedTuple):
    """Credentials of a moment, and where they are for."""

    access_key: str
    secret_key: str
    token: str | None
    region: str


def signed(keys: Keys, host: str, path: str, headers: dict[str, str], moment: float) -> bytes:
    """The request for a path (quoted already): `headers`, named in small letters, are signed.

    The recipe: AWS General Reference, "Create a signed AWS API request".
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
    token = {"x-amz-security-token": keys.token} if keys.token else {}
    told = {"host": host, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp, **token, **headers}
    names = sorted(told)
    lines = "".join([f"{name}:{told[name]}\n" for name in names])
    named = ";".join(names)
    request = f"GET\n{path}\n\n{lines}\n{named}\n{EMPTY}"
    scope = f"{stamp[:8]}/{keys.region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = _day_key(keys.secret_key, stamp[:8], keys.region)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    proof = f"Credential={keys.access_key}/{scope}, SignedHeaders={named}, Signature={signature}"
    # Not signed: what a proxy might change.
    lines += f"authorization:AWS4-HMAC-SHA256 {proof}\nuser-agent:visionflows\n\n"
    return f"GET {path} HTTP/1.1\n{lines}".replace("\n", "\r\n").encode()


@functools.lru_cache(8)
def _day_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class Line:
    """Connections to a server; one that has answered whole is used again."""

    def __init__(self, url: str, timeouts: tuple[float, float], bundle: str):
        parts = urlsplit(url)
        self.address = parts.hostname, parts.port or {"https": 443, "http": 80}[parts.scheme]
        self.timeouts, self.idle = timeouts, collections.deque()
        self.context = None
        if parts.scheme == "https":
            self.context = ssl.create_default_context(cafile=bundle or None)

    def get(self, request: bytes, most: int | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (named in small letters) and, of a 200, the content.

        Raises OSError and ValueError where a 200 does not come whole, or in no plain way;
        TooLarge for one of more bytes than `most`, which are not read.
        """
        sock, stream = self._connection()
        try:
            sock.sendall(request)
            status, headers = _head(stream)
            if status != 200:  # what is said beside is for boto3, which asks again
                return status, headers, b""
            if "transfer-encoding" in headers or "content-encoding" in headers:
                raise ValueError("the content is not sent as it is")
            length = int(headers["content-length"])
            if most is not None and length > most:
                raise TooLarge(length)
            data = stream.read(length)
            if len(data) != length:
                raise ConnectionError(f"the answer ends after {len(data)} of {length} bytes")
            if headers.get("connection", "").lower() != "close":
                self.idle.append((sock, stream))
                sock = None
            return status, headers, data
        except (KeyError, UnicodeDecodeError) as error:
            raise ValueError(f"an answer of no known kind: {error}") from error
        finally:
            if sock:
                stream.close()
                sock.close()

    def _connection(self) -> tuple[socket.socket, BinaryIO]:
        while self.idle:
            try:
                sock, stream = self.idle.pop()
            except IndexError:  # another thread was faster
                break
            if not _has_ended(sock):
                return sock, stream
            stream.close()
            sock.close()
        sock = socket.create_connection(self.address, self.timeouts[0])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context:
            sock = self.context.wrap_socket(sock, server_hostname=self.address[0])
        sock.settimeout(self.timeouts[1])
        return sock, sock.makefile("rb", 1 << 16)


def _has_ended(sock: socket.socket) -> bool:
    """Whether there is something to read where nothing was asked for: the end, mostly."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _head(stream: BinaryIO) -> tuple[int, dict[str, str]]:
    version, _, rest = _line(stream).partition(" ")
    if version != "HTTP/1.1":
        raise ValueError(f"{version!r} is not HTTP/1.1")
    status, headers = int(rest[:3]), {}
    while line := _line(stream):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
        if len(headers) > MOST_HEADERS:
            raise ValueError("too many headers")
    return status, headers


def _line(stream: BinaryIO) -> str:
    line = stream.readline(LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise ConnectionError("the answer ends in its headers")
    return line.rstrip(b"\r\n").decode("latin-1")
