"""boto3's client for S3, tuned, and one request that is tried until it is answered.

    call("head_object", "lab", Key="store/models/pets/aliases/latest")

Credentials are boto3's own or a Prefect block's, never logged or written; settings: docs/how-to/use-s3.md.
"""

import functools
import logging
import os
import re
import threading
from collections.abc import Callable
from typing import Any

from visionflows.bounded_read import TooLarge
from visionflows.errors import SettingsError, VisionflowsError
from visionflows.storage.base import ReadFailed
from visionflows.storage.s3.error_messages import BrokenError, meaning

Answer = dict[str, Any]
log = logging.getLogger("visionflows.s3")
# What makes a session of a block's name; orchestration says what, as no place knows Prefect.
session_of_block: Callable[[str], tuple[Any, Any]] | None = None
_lock = threading.RLock()
_OURS = re.compile("AWS_|VISIONFLOWS_S3_|(?i:(http|https|all|no)_proxy)")


def number(name: str) -> int:
    """What VISIONFLOWS_S3_<name> says, or its default."""
    default = {"CONNECTIONS": "32", "ATTEMPTS": "6", "TIMEOUT": "20"}[name]
    text = os.environ.get(f"VISIONFLOWS_S3_{name}") or default
    if not re.fullmatch("[1-9][0-9]{0,4}", text):
        raise SettingsError(f"VISIONFLOWS_S3_{name}={text}: give a whole number from 1, as 32")
    return int(text)


def settings() -> tuple[tuple[str, str], ...]:
    """What the environment says now of S3 and of the way there: one client for each."""
    return tuple(sorted(item for item in os.environ.items() if _OURS.match(item[0])))


def connection() -> tuple[Any, Any]:
    """boto3's session, which has the credentials, and the client that was made of it."""
    with _lock:
        return _made(settings())


@functools.cache
def _made(key: tuple[tuple[str, str], ...]) -> tuple[Any, Any]:
    import boto3
    from botocore.config import Config

    block, asked = os.environ.get("VISIONFLOWS_S3_BLOCK"), session_of_block
    if block and not asked:
        raise SettingsError(
            f"VISIONFLOWS_S3_BLOCK={block}: only flows and commands know blocks; unset it"
        )
    session, endpoint = asked(block) if block and asked else (boto3.Session(), None)
    named = (
        endpoint
        or session._session.get_scoped_config().get("endpoint_url")
        or any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    )
    addressing = os.environ.get("VISIONFLOWS_S3_ADDRESSING") or ("path" if named else "auto")
    # adaptive: besides trying again, fewer requests a second after a SlowDown
    mode = os.environ.get("AWS_RETRY_MODE") or "adaptive"
    config = Config(
        retries={"mode": mode, "total_max_attempts": number("ATTEMPTS")},
        connect_timeout=min(number("TIMEOUT"), 10),
        read_timeout=number("TIMEOUT"),
        max_pool_connections=number("CONNECTIONS") + 8,  # besides reads: parts, the lock's renewal
        s3={"addressing_style": addressing},
        tcp_keepalive=True,
        user_agent_extra="visionflows",
    )
    region = session.region_name or ("us-east-1" if named else None)
    return session, session.client("s3", config=config, region_name=region, endpoint_url=endpoint)


def _forget() -> None:
    """A forked child shares no connection with its parent."""
    global _lock
    _lock = threading.RLock()
    _made.cache_clear()


os.register_at_fork(after_in_child=_forget)


def call(operation: str, bucket: str, accept: Callable[..., Any] = dict, **parameters: Any) -> Any:
    """What S3 answers, as `accept` takes it. Raises what `meaning` makes of an error.

    botocore tries a request again; here that is done with an answer that comes broken.
    """
    import tenacity
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    # The last: a credential_process that is not there, or prints no JSON; botocore at some 500s.
    known = (ClientError, BotoCoreError, ResponseParserError, OSError, ValueError, AttributeError)

    def once() -> Any:
        try:
            ask = getattr(connection()[1], operation)
            return accept(ask(Bucket=bucket, **extra(operation), **parameters))
        except (ReadFailed, TooLarge, VisionflowsError):
            raise
        except known as error:
            raise meaning(error, operation, bucket, parameters.get("Key")) from error

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BrokenError),
        stop=tenacity.stop_after_attempt(number("ATTEMPTS")),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),  # never in step with others
        reraise=True,
    )(once)


def extra(operation: str) -> dict[str, str]:
    """What the settings add to a request."""
    key, encrypted = os.environ.get("VISIONFLOWS_S3_KMS_KEY"), {}
    if key and operation in ("put_object", "copy_object", "create_multipart_upload"):
        encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    paid = operation != "abort_multipart_upload"  # the one that is not
    paid &= os.environ.get("VISIONFLOWS_S3_REQUEST_PAYER") == "1"
    return encrypted | ({"RequestPayer": "requester"} if paid else {})
