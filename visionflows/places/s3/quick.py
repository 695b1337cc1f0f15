"""An object by the shortest way: one signed request, when nothing is the matter.

    from visionflows.places.s3.quick import quick
    quick("inbox", "1.jpg")                          # the bytes and headers; None: ask boto3

For every request boto3 takes more than a millisecond of Python, in which no decoder can run;
this takes a fifth. Credentials and addresses are boto3's own. Whatever is not a whole 200 is
None, and boto3 is asked, with its retries, its throttling and its errors; after a fault on the
way everything goes through boto3 for a while, and behind a proxy always.
"""

import base64
import os
import threading
import time
import zlib
from urllib.parse import quote, urlsplit

from visionflows.content import TooLarge
from visionflows.places.s3.client import client, pay, session, timeouts
from visionflows.places.s3.wire import Keys, Line, signed

FAULTED = 10.0  # seconds for which boto3 does everything after a fault
# Answers that tell of one object; any other is a fault of the server or of the way to it.
_OF_ONE_OBJECT = (403, 404, 412)

_lock = threading.Lock()
_ways: dict[int, "_Way"] = {}  # by the client, which s3_client keeps


class _Way:
    """How to reach buckets as a client does: connections, credentials, addresses."""

    def __init__(self, boto):
        from botocore.utils import get_environ_proxies

        made = session()
        self.boto, self.credentials = boto, made.get_credentials()
        self.bundle = made._session.get_config_variable("ca_bundle") or ""
        self.proxied = bool(get_environ_proxies(boto.meta.endpoint_url))
        self.buckets: dict[str, tuple[str, str, Line]] = {}
        self.lines: dict[str, Line] = {}
        self.faulted = -FAULTED

    def works(self) -> bool:
        """Whether it may be tried now."""
        faulted = time.monotonic() - self.faulted < FAULTED
        return self.credentials is not None and not self.proxied and not faulted

    def bucket(self, name: str) -> tuple[str, str, Line]:
        """Host, what comes before a key in a path, and connections: as boto3 addresses it."""
        if name not in self.buckets:
            url = self.boto.generate_presigned_url("get_object", {"Bucket": name, "Key": "k"})
            parts = urlsplit(url)
            server = f"{parts.scheme}://{parts.netloc}"
            line = self.lines.setdefault(server, Line(server, timeouts(), self.bundle))
            self.buckets[name] = parts.netloc, parts.path.removesuffix("k"), line
        return self.buckets[name]


def quick(
    bucket: str, key: str, match: str = "", most: int | None = None
) -> tuple[bytes, dict] | None:
    """The bytes of an object and what its headers say, named as boto3 names it; else None.

    Raises TooLarge, unread, for more bytes than `most`.
    """
    way = _way()
    if not way.works():
        return None
    host, before, line = way.bucket(bucket)
    frozen = way.credentials.get_frozen_credentials()
    keys = Keys(frozen.access_key, frozen.secret_key, frozen.token, way.boto.meta.region_name)
    headers = {"x-amz-checksum-mode": "ENABLED", **pay()}
    if match:
        headers["if-match"] = match
    try:
        request = signed(keys, host, before + quote(key, safe="/~"), headers, time.time())
        status, told, data = line.get(request, most)
    except TooLarge:
        raise
    except (OSError, ValueError):
        way.faulted = time.monotonic()
        return None
    if status != 200:
        if status not in _OF_ONE_OBJECT:
            way.faulted = time.monotonic()
        return None
    return _checked(data, told)


def _way() -> _Way:
    boto = client()
    found = _ways.get(id(boto))
    if found is None:
        with _lock:
            found = _ways.setdefault(id(boto), _Way(boto))
    return found


def _checked(data: bytes, headers: dict[str, str]) -> tuple[bytes, dict] | None:
    """The answer, unless its CRC says that it broke on the way."""
    told = {"ETag": headers.get("etag", ""), "ContentLength": len(data)}
    if crc := headers.get("x-amz-checksum-crc32"):
        if "-" not in crc and base64.b64decode(crc) != zlib.crc32(data).to_bytes(4, "big"):
            return None
        told["ChecksumCRC32"] = crc
    if encrypted := headers.get("x-amz-server-side-encryption"):
        told["ServerSideEncryption"] = encrypted
    return data, told


def _forget() -> None:
    """A forked child shares no connection with its parent."""
    global _lock
    _lock = threading.Lock()
    _ways.clear()


os.register_at_fork(after_in_child=_forget)
