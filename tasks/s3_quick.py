"""An object by the shortest way: one signed request, when nothing is the matter.

    from tasks.s3_quick import quick
    quick("inbox", "1.jpg")                          # the bytes and headers; None: ask boto3

For every request boto3 takes more than a millisecond of Python, in which no decoder can run;
this takes a third. Credentials, address, signature and connections are botocore's own. Whatever
is not a whole 200 is None, and boto3 is asked, with its retries, its throttling and its errors;
after a fault on the way everything goes through boto3 for a while.
"""

import base64
import os
import threading
import time
import zlib
from urllib.parse import quote

from tasks.s3_client import client, connections, pay, session, timeouts

FAULTED = 10.0  # seconds for which boto3 does everything after a fault
# Answers that tell of one object; any other is a fault of the server or of the way to it.
_OF_ONE_OBJECT = (403, 404, 412)

_lock = threading.Lock()
_ways: dict[int, "_Way"] = {}  # by the client, which s3_client keeps


class _Way:
    """How to reach a bucket as a client does: connections, credentials, addresses."""

    def __init__(self, boto):
        from botocore.httpsession import URLLib3Session
        from botocore.utils import get_environ_proxies

        self.boto, made = boto, session()
        self.credentials = made.get_credentials()
        self.http = URLLib3Session(
            verify=made._session.get_config_variable("ca_bundle") or True,
            proxies=get_environ_proxies(boto.meta.endpoint_url),
            timeout=timeouts(),
            max_pool_connections=connections(),
        )
        self.addresses: dict[str, str] = {}
        self.faulted = -FAULTED

    def address(self, bucket: str) -> str:
        """What comes before a key: as in a URL that boto3 signs."""
        if bucket not in self.addresses:
            signed = self.boto.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
            self.addresses[bucket] = signed.partition("?")[0].removesuffix("k")
        return self.addresses[bucket]


def quick(bucket: str, key: str, match: str = "") -> tuple[bytes, dict] | None:
    """The bytes of an object and what its headers say, named as boto3 names it; else None."""
    from botocore.exceptions import BotoCoreError

    way = _way()
    if way.credentials is None or time.monotonic() - way.faulted < FAULTED:
        return None
    try:
        response = way.http.send(_request(way, bucket, key, match))
        data = response.content
    except BotoCoreError:
        way.faulted = time.monotonic()
        return None
    if response.status_code != 200:
        if response.status_code not in _OF_ONE_OBJECT:
            way.faulted = time.monotonic()
        return None
    return _checked(data, response.headers)


def _way() -> _Way:
    boto = client()
    with _lock:
        if id(boto) not in _ways:
            _ways[id(boto)] = _Way(boto)
        return _ways[id(boto)]


def _request(way: _Way, bucket: str, key: str, match: str):
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest

    headers = {"x-amz-checksum-mode": "ENABLED", "User-Agent": "visionflows", **pay()}
    if match:
        headers["If-Match"] = match
    request = AWSRequest("GET", way.address(bucket) + quote(key, safe="/~"), headers=headers)
    frozen = way.credentials.get_frozen_credentials()
    S3SigV4Auth(frozen, "s3", way.boto.meta.region_name).add_auth(request)
    return request.prepare()


def _checked(data: bytes, headers) -> tuple[bytes, dict] | None:
    """The answer, unless its length or its CRC says that it broke on the way."""
    if len(data) != int(headers.get("content-length", len(data))):
        return None
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
