"""boto3's client for S3, tuned, and what its errors mean for a person.

    from visionflows.places.s3.client import call
    call("head_object", "lab", Key="store/models/pets/aliases/latest")

Credentials come from boto3's own chain (environment, profile, the machine's role) or from a
Prefect block, and are never logged or written. Besides what boto3 reads itself (AWS_PROFILE,
AWS_REGION, AWS_ENDPOINT_URL_S3 for MinIO, Ceph, R2 …, AWS_RETRY_MODE, AWS_CA_BUNDLE,
AWS_REQUEST_CHECKSUM_CALCULATION for servers that know no CRC), these set it:

    VISIONFLOWS_S3_CONNECTIONS    requests in flight, a process [32]
    VISIONFLOWS_S3_ATTEMPTS       how often a request is tried before it counts as failed [6]
    VISIONFLOWS_S3_TIMEOUT        seconds without a byte after which it is tried again [20]
    VISIONFLOWS_S3_ADDRESSING     path, virtual or auto [path where an endpoint is named]
    VISIONFLOWS_S3_KMS_KEY        what is written is encrypted with this KMS key [none]
    VISIONFLOWS_S3_REQUEST_PAYER  1: we pay for what we read from others' buckets [0]
    VISIONFLOWS_S3_BLOCK          the Prefect block that has the credentials [none: boto3's chain]
"""

import concurrent.futures
import os
import random
import re
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from visionflows.errors import PlaceError, SettingsError

_lock = threading.Lock()
_clients: dict[tuple, object] = {}
_sessions: dict[tuple, tuple] = {}  # boto3's session, and the endpoint that a block names
_pools: dict[int, concurrent.futures.ThreadPoolExecutor] = {}

# What makes a session of a block's name; flows/__init__.py says what, as no task knows Prefect.
session_of_block: Callable[[str], tuple] | None = None

# What each operation is for a person, and the right it needs.
_RIGHTS = {
    "list_objects_v2": ("list", "s3:ListBucket"),
    "list_multipart_uploads": ("list", "s3:ListBucketMultipartUploads"),
    "get_object": ("read", "s3:GetObject"),
    "head_object": ("read", "s3:GetObject"),
    "delete_object": ("delete", "s3:DeleteObject"),
    "delete_objects": ("delete", "s3:DeleteObject"),
}
_WRITE = ("write", "s3:PutObject")
_WRITING = ("put_object", "copy_object", "create_multipart_upload")
_NOT_PAID = ("abort_multipart_upload",)
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a role"
_REGION = (
    *("PermanentRedirect", "301", "307", "AuthorizationHeaderMalformed"),
    *("IllegalLocationConstraintException", "TemporaryRedirect"),
)
_DENIED = ("AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem")
_GONE = ("NoSuchKey", "404", "NotFound", "NoSuchVersion", "NoSuchUpload")
_CHANGED = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
# What another try may not meet again.
FAILING = (
    *("InternalError", "500", "502", "503", "504", "ServiceUnavailable", "SlowDown"),
    *("RequestTimeout", "BadDigest", "Throttling", "XAmzContentSHA256Mismatch", "IncompleteBody"),
)


class DeniedError(PlaceError):
    """The credentials are known, and not allowed to do this."""


class FailingError(PlaceError):
    """The server answered no try, or each with an error of its own."""


class ChangedError(Exception):
    """The condition of a request does not hold: the object is another one by now."""


def connections() -> int:
    """How many requests may be in flight."""
    return _number("CONNECTIONS", 32)


def attempts() -> int:
    """How often a request is tried."""
    return _number("ATTEMPTS", 6)


def _number(name: str, default: int) -> int:
    text = os.environ.get(f"VISIONFLOWS_S3_{name}") or str(default)
    if not re.fullmatch("[1-9][0-9]{0,4}", text):
        raise SettingsError(f"VISIONFLOWS_S3_{name}={text}: give a whole number from 1, as 32")
    return int(text)


def pool() -> concurrent.futures.ThreadPoolExecutor:
    """The threads that wait for S3, one set a process."""
    with _lock:
        size = connections()
        if size not in _pools:
            _pools[size] = concurrent.futures.ThreadPoolExecutor(size, "visionflows-s3")
        return _pools[size]


def client():
    """The client of this process for the settings that the environment has now."""
    key = _settings()
    with _lock:
        if key not in _clients:
            _clients[key] = _made(*_session(key))
        return _clients[key]


def session():
    """boto3's session that the client was made of: it has the credentials."""
    with _lock:
        return _session(_settings())[0]


def _settings() -> tuple:
    names = ("AWS_", "VISIONFLOWS_S3_")
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(names)))


def _session(key: tuple) -> tuple:
    if key not in _sessions:
        import boto3

        block = os.environ.get("VISIONFLOWS_S3_BLOCK")
        if block and not session_of_block:
            raise SettingsError(f"VISIONFLOWS_S3_BLOCK={block}: only flows know blocks; unset it")
        _sessions[key] = session_of_block(block) if block else (boto3.Session(), None)
    return _sessions[key]


def timeouts() -> tuple[int, int]:
    """Seconds to connect in, and seconds without a byte."""
    seconds = _number("TIMEOUT", 20)
    return min(seconds, 10), seconds


def _made(session, endpoint: str | None):
    from botocore.config import Config

    named = (
        endpoint
        or session._session.get_scoped_config().get("endpoint_url")
        or any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    )
    addressing = os.environ.get("VISIONFLOWS_S3_ADDRESSING") or ("path" if named else "auto")
    config = Config(
        retries={
            # adaptive: besides trying again, fewer requests a second after a SlowDown
            "mode": os.environ.get("AWS_RETRY_MODE") or "adaptive",
            "total_max_attempts": attempts(),
        },
        connect_timeout=timeouts()[0],
        read_timeout=timeouts()[1],
        max_pool_connections=connections() + 8,  # besides reads: parts, the lock's heartbeat
        s3={"addressing_style": addressing},
        tcp_keepalive=True,
        user_agent_extra="visionflows",
    )
    region = session.region_name or ("us-east-1" if named else None)
    return session.client("s3", config=config, region_name=region, endpoint_url=endpoint)


def _forget() -> None:
    """A forked child shares no connection or thread with its parent."""
    global _lock
    _lock = threading.Lock()
    _clients.clear()
    _sessions.clear()
    _pools.clear()


os.register_at_fork(after_in_child=_forget)


def call(operation: str, bucket: str, **parameters) -> dict:
    """What S3 answers. Raises FileNotFoundError, ChangedError, and PlaceError for all others.

    botocore tries again what failed on the way; a cut answer, which it does not, is tried again
    here. Every operation used can be done twice.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        ResponseStreamingError,
    )
    from botocore.parsers import ResponseParserError

    for attempt in range(attempts()):
        try:
            return getattr(client(), operation)(Bucket=bucket, **_extra(operation), **parameters)
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            if code in ("BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"):
                last = error  # what we sent did not arrive as it was
            elif code in _GONE and "Key" in parameters:
                raise FileNotFoundError(2, "No such object", parameters["Key"]) from error
            elif code == "NoSuchUpload":  # what rclone answers where there is none to list
                return {}
            elif code in _CHANGED:
                raise ChangedError(parameters.get("Key", "")) from error
            else:
                raise told(error, operation, bucket) from error
        except (ResponseStreamingError, ResponseParserError) as error:
            last = error
        except (HTTPClientError, BotoCoreError) as error:
            raise told(error, operation, bucket) from error
        pause(attempt)
    raise told(last, operation, bucket) from last


def pause(attempt: int) -> None:
    """Wait before another try: longer every time, and never in step with others."""
    time.sleep(random.uniform(0.5, 1) * min(0.1 * 2**attempt, 5))


def _extra(operation: str) -> dict:
    """What the settings add to a request."""
    extra = {}
    key = os.environ.get("VISIONFLOWS_S3_KMS_KEY")
    if key and operation in _WRITING:
        extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    if pay() and operation not in _NOT_PAID:
        extra["RequestPayer"] = "requester"
    return extra


def pay() -> dict[str, str]:
    """The header that says that we pay for what we read."""
    payer = os.environ.get("VISIONFLOWS_S3_REQUEST_PAYER") == "1"
    return {"x-amz-request-payer": "requester"} if payer else {}


def told(error: Exception, operation: str, bucket: str) -> PlaceError:
    """What boto3's error means, in one line: the bucket, what is wrong, and what to do."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
    from botocore.parsers import ResponseParserError

    where = f"s3://{bucket}"
    if isinstance(error, ClientError):
        return _refused(error, operation, where)
    if isinstance(error, (ConnectionError, HTTPClientError, ResponseParserError)):
        return FailingError(
            f"{where}: {_endpoint()} does not answer ({type(error).__name__}); check that it is "
            "up and that AWS_ENDPOINT_URL_S3 is right, then run it again"
        )
    if "Credential" in type(error).__name__ or "Token" in type(error).__name__:
        return PlaceError(f"{where}: no credentials that boto3 can use; {_CREDENTIALS}")
    # Of the rest some quote a parameter; none of them is a secret.
    return PlaceError(f"{where}: {_line(error)}; check the AWS settings of this machine")


def _refused(error, operation: str, where: str) -> PlaceError:
    answer = error.response["Error"]
    code, verb = answer.get("Code", ""), _RIGHTS.get(operation, _WRITE)
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if code in _DENIED:
        return DeniedError(
            f"{where}: these credentials may not {verb[0]} there ({code}); allow {verb[1]} on it"
        )
    if code in _REGION:
        region = answer.get("Region") or headers.get("x-amz-bucket-region") or "another region"
        return PlaceError(f"{where}: lies in {region}, not where it was asked for; set AWS_REGION")
    if code in FAILING:
        return FailingError(
            f"{where}: the server failed {attempts()} times in a row ({code}); run it again later"
        )
    lines = {
        "NoSuchBucket": "no such bucket; check its name and AWS_ENDPOINT_URL_S3",
        "404": "no such bucket; check its name and AWS_ENDPOINT_URL_S3",
        "InvalidAccessKeyId": f"the server does not know this access key; {_CREDENTIALS}",
        "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
        "ExpiredToken": "the credentials have expired; renew them",
        "InvalidToken": "the session token is not valid; renew the credentials",
        "RequestTimeTooSkewed": "this machine's clock is wrong by minutes; set it (timedatectl)",
        "InvalidObjectState": "lies in an archive class; restore it first",
    }
    if code in lines:
        return PlaceError(f"{where}: {lines[code]}")
    return PlaceError(f"{where}: cannot {verb[0]} there: {code} {_line(answer.get('Message', ''))}")


def _endpoint() -> str:
    parts = urlsplit(client().meta.endpoint_url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _line(what: object) -> str:
    return " ".join(str(what).split())
