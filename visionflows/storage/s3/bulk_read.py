"""Many objects read at once: through obstore, and through boto3 where obstore cannot.

    from visionflows.storage.s3.bulk_read import reader
    reader("inbox").read("2020/1.jpg", "90e2ad627a35e270…")

obstore (Rust's object_store) takes a sixth of boto3's time in Python, in which no decoder can run.
It has boto3's addresses and credentials; what does not come whole, as listed and with its MD5,
boto3 is asked for, with its retries, its throttling and its errors. boto3 is kept for:

    empty, `.` and `..` parts of keys   obstore refuses them, or asks for `a` where it is `a/`
    control characters in keys          it refuses them
    listing                             it ends at the first such key, and tells `a/` as `a`
    ETags that are no MD5               uploads in parts, KMS: it cannot compare their CRC
    ten seconds after a fault           so that boto3's throttling sees all that is asked
    forks of what has used obstore      a request would hang there: tokio does not survive a fork
    writes, deletes, single reads       they come before the forks that decode for a GPU
"""

import datetime
import functools
import os
import re
import time
from pathlib import Path
from typing import Any, cast

from visionflows.hashing import md5_of
from visionflows.storage.s3.client import connection, extra, number, settings
from visionflows.storage.s3.objects import MD5, get, tag_of

FAULTED = 10.0  # seconds for which boto3 does everything after a fault
_OF_ONE_OBJECT = re.compile(r"status code: 4(?!08|29)")  # any other tells of the server
_ODD = re.compile(r"(^|/)(\.\.?)?(/|$)|[\x00-\x1f\x7f]")
_usable = True  # here: in a fork of what has used obstore it is not


class Reader:
    """The way to a bucket's objects."""

    def __init__(self, bucket: str, key: tuple[tuple[str, str], ...]):
        self.bucket, self.store = bucket, _store(bucket)
        self.faulted, self.has_md5s = -FAULTED, True

    def read(self, key: str, version: str, most: int | None) -> bytes:
        """The object as it was listed. Raises as `get` does."""
        at_ease = time.monotonic() - self.faulted >= FAULTED and self.has_md5s and _usable
        plain = MD5.fullmatch(version) and not _ODD.search(key)
        if at_ease and plain and self.store and (found := self.at_once(key, version)) is not None:
            return found
        data, tag = get(self.bucket, key, version, most=most)
        self.has_md5s &= not MD5.fullmatch(tag) or md5_of(data) == tag  # KMS's only look like one
        return data

    def at_once(self, key: str, version: str) -> bytes | None:
        """The object through obstore; None if anything is the matter."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            found = obstore.get(self.store, key, options={"if_match": f'"{version}"'})
            data = bytes(found.bytes())
        except (BaseError, OSError, ValueError) as error:
            if not _OF_ONE_OBJECT.search(str(error)):
                self.faulted = time.monotonic()
            return None
        tag = tag_of({"ETag": found.meta["e_tag"] or ""})
        return data if tag == version and md5_of(data) == tag else None


_readers = functools.cache(Reader)


def reader(bucket: str) -> Reader:
    """The reader of this process for the settings that the environment has now."""
    return _readers(bucket, settings())


def _store(bucket: str) -> Any:
    """obstore's view of a bucket; None where boto3 will say what is the matter."""
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
            aws_endpoint_url_s3=endpoint,  # as a variable of obstore's it would win over another
            virtual_hosted_style_request=True,
            region=boto.meta.region_name,
            request_payer="RequestPayer" in extra("get_object"),
            skip_signature=False,
            credential_provider=keys,
            retry_config={"max_retries": 1},  # of a connection that was closed while it was idle
            client_options=cast(Any, options),
        )
    except (BotoCoreError, BaseError, OSError, ValueError):
        return None


def _forked() -> None:
    """Leave alone what the parent has: what it began in obstore never ends here."""
    global _usable
    _usable = _usable and not _readers.cache_info().currsize


os.register_at_fork(after_in_child=_forked)
