"""Many objects read concurrently: with obstore, or with boto3 where obstore cannot.

obstore (Rust's object_store) needs a sixth of boto3's time in Python, during which no decoder can
run. An object that does not arrive complete, as listed and with its MD5, is read again with boto3,
its retries, throttling and errors. boto3 also does:

    empty, `.` and `..` parts of keys   obstore refuses them, or requests `a` for `a/`
    control characters in keys          obstore refuses them
    listing                             obstore's ends at the first such key; `a/` becomes `a`
    ETags that are no MD5               multipart, KMS: obstore cannot compare their CRC
    ten seconds after a fault           so that boto3's throttling sees all requests
    forks of a process that used it     a request would hang: tokio does not survive a fork
    writes, deletes, single reads       they happen before the forks that decode for a GPU
"""

import datetime
import functools
import os
import re
import time
from pathlib import Path
from typing import Any, cast

from visionflows.hashing import md5_of
from visionflows.storage.s3.client import connection, extra_parameters, number, settings
from visionflows.storage.s3.objects import MD5, etag, get

FAULT_SECONDS = 10.0  # for which boto3 does everything after a fault
_OBJECT_ERROR = re.compile(r"status code: 4(?!08|29)")  # any other error is the server's
_UNSUPPORTED = re.compile(r"(^|/)(\.\.?)?(/|$)|[\x00-\x1f\x7f]")
_usable = True  # False in a fork of a process that used obstore
_is_used = False  # whether this process did


class Reader:
    """Reads the objects of a bucket."""

    def __init__(self, bucket: str, key: tuple[tuple[str, str], ...]):
        self.bucket = bucket
        self.last_fault, self.has_md5s = -FAULT_SECONDS, True

    @functools.cached_property
    def store(self) -> Any:
        """obstore's store; made by the first read that may use it, since forks then may not."""
        return _store(self.bucket)

    def read(self, key: str, version: str, max_bytes: int | None) -> bytes:
        """The object as it was listed. Raises as `get` does."""
        healthy = time.monotonic() - self.last_fault >= FAULT_SECONDS
        supported = MD5.fullmatch(version) and not _UNSUPPORTED.search(key)
        if _usable and healthy and supported and self.has_md5s and self.store:
            data = self.read_with_obstore(key, version)
            if data is not None:
                return data
        data, tag = get(self.bucket, key, version, max_bytes=max_bytes)
        self.has_md5s &= not MD5.fullmatch(tag) or md5_of(data) == tag  # KMS: only looks like one
        return data

    def read_with_obstore(self, key: str, version: str) -> bytes | None:
        """The object; None after any error."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            found = obstore.get(self.store, key, options={"if_match": f'"{version}"'})
            data = bytes(found.bytes())
        except (BaseError, OSError, ValueError) as error:
            if not _OBJECT_ERROR.search(str(error)):
                self.last_fault = time.monotonic()
            return None
        tag = etag({"ETag": found.meta["e_tag"] or ""})
        return data if tag == version and md5_of(data) == tag else None


_readers = functools.cache(Reader)


def reader(bucket: str) -> Reader:
    """The reader of this process for the present settings."""
    return _readers(bucket, settings())


def _store(bucket: str) -> Any:
    """obstore's store of a bucket; None if boto3 is to report an error."""
    global _is_used
    _is_used = True
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    silence = number("TIMEOUT")
    options: dict[str, Any] = {"user_agent": "visionflows", "read_timeout": f"{silence}s"}
    options |= {"connect_timeout": f"{min(silence, 10)}s", "timeout": "1 day"}  # the last: none
    try:
        session, boto = connection()
        # Kept for a minute (obstore renews 5 before the end); boto3's are good for 10 at least.
        keys = Boto3CredentialProvider(session, ttl=datetime.timedelta(minutes=6))
        url = boto.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
        endpoint = url.partition("?")[0].removesuffix("/k")  # with the bucket in its host or path
        options["allow_http"] = endpoint.startswith("http:")
        if bundle := session._session.get_config_variable("ca_bundle"):
            options["root_certificate"] = Path(bundle).read_bytes()
        return S3Store(
            bucket,
            aws_endpoint_url_s3=endpoint,  # as an environment variable it would override others
            virtual_hosted_style_request=True,
            region=boto.meta.region_name,
            request_payer="RequestPayer" in extra_parameters("get_object"),
            skip_signature=False,
            credential_provider=keys,
            retry_config={"max_retries": 1},  # for a connection that was closed while idle
            client_options=cast(Any, options),
        )
    except (BotoCoreError, BaseError, OSError, ValueError):
        return None


def _forbid() -> None:
    """Stop using obstore in a fork of a process that used it."""
    global _usable
    _usable = _usable and not _is_used


os.register_at_fork(after_in_child=_forbid)
