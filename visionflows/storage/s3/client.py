"""boto3's S3 client, tuned, and one request with retries.

    call("head_object", "lab", Key="store/models/pets/aliases/latest")

Credentials are those of boto3's chain or a Prefect block; docs/s3.md lists the settings.
"""

import functools
import logging
import os
import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visionflows.bounded_read import TooLarge
from visionflows.errors import SettingsError, VisionflowsError
from visionflows.storage.base import ReadFailed
from visionflows.storage.s3.error_messages import AwayError, BrokenError, translate_error

if TYPE_CHECKING:
    import tenacity

Response = dict[str, Any]
log = logging.getLogger("visionflows.s3")
# Makes a session of a block's name. Orchestration sets it, as storage does not know Prefect.
session_of_block: Callable[[str], tuple[Any, Any]] | None = None
_lock = threading.RLock()
_SETTINGS = re.compile("AWS_|VISIONFLOWS_S3_|(?i:(http|https|all|no)_proxy)")
_DEFAULTS = {"CONNECTIONS": "32", "ATTEMPTS": "6", "TIMEOUT": "20", "PATIENCE": "120"}
_answered: set[tuple[tuple[str, str], ...]] = set()  # settings with which a server has answered
_away: set[str] = set()  # buckets of which a log line says that their server is away


def number(name: str) -> int:
    """The value of VISIONFLOWS_S3_<name>, or its default."""
    text = os.environ.get(f"VISIONFLOWS_S3_{name}") or _DEFAULTS[name]
    if not re.fullmatch("[1-9][0-9]{0,4}", text):
        raise SettingsError(f"VISIONFLOWS_S3_{name}={text}: give a whole number from 1, as 32")
    return int(text)


def settings() -> tuple[tuple[str, str], ...]:
    """The environment variables that S3 and proxies depend on: the key of a client."""
    return tuple(sorted(item for item in os.environ.items() if _SETTINGS.match(item[0])))


def connection() -> tuple[Any, Any]:
    """boto3's session and client for the present settings."""
    with _lock:
        return _connect(settings())


@functools.cache
def _connect(key: tuple[tuple[str, str], ...]) -> tuple[Any, Any]:
    import boto3
    from botocore.config import Config

    block, make_session = os.environ.get("VISIONFLOWS_S3_BLOCK"), session_of_block
    if block and not make_session:
        raise SettingsError(
            f"VISIONFLOWS_S3_BLOCK={block}: only flows and commands can use blocks; unset it"
        )
    session, endpoint = make_session(block) if block and make_session else (boto3.Session(), None)
    has_endpoint = (
        endpoint
        or session._session.get_scoped_config().get("endpoint_url")
        or any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    )
    addressing = os.environ.get("VISIONFLOWS_S3_ADDRESSING") or ("path" if has_endpoint else "auto")
    # adaptive: retries, and fewer requests a second after a SlowDown
    mode = os.environ.get("AWS_RETRY_MODE") or "adaptive"
    config = Config(
        retries={"mode": mode, "total_max_attempts": number("ATTEMPTS")},
        connect_timeout=min(number("TIMEOUT"), 10),
        read_timeout=number("TIMEOUT"),
        max_pool_connections=number("CONNECTIONS") + 8,  # for parts and the lock besides reads
        s3={"addressing_style": addressing},
        tcp_keepalive=True,
        user_agent_extra="visionflows",
    )
    region = session.region_name or ("us-east-1" if has_endpoint else None)
    return session, session.client("s3", config=config, region_name=region, endpoint_url=endpoint)


def _forget() -> None:
    """A forked child shares no connection with its parent."""
    global _lock
    _lock = threading.RLock()
    _connect.cache_clear()


os.register_at_fork(after_in_child=_forget)


def call(operation: str, bucket: str, accept: Callable[..., Any] = dict, **parameters: Any) -> Any:
    """The response to a request, passed through `accept`. Raises as `translate_error` returns.

    botocore retries requests; this also retries a response that arrives broken, and waits for a
    server that has answered before, such as one that restarts.
    """
    import tenacity
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    # OSError, ValueError: a credential_process that is missing or prints no JSON. AttributeError:
    # botocore at some responses with status 500.
    known = (ClientError, BotoCoreError, ResponseParserError, OSError, ValueError, AttributeError)

    def once() -> Any:
        try:
            request = getattr(connection()[1], operation)
            response = request(Bucket=bucket, **extra_parameters(operation), **parameters)
            _answered.add(settings())
            _away.discard(bucket)
            return accept(response)
        except (ReadFailed, TooLarge, VisionflowsError):
            raise
        except known as error:
            raise translate_error(error, operation, bucket, parameters.get("Key")) from error

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((BrokenError, AwayError)),
        stop=_gives_up,
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
        before_sleep=lambda state: _log_away(bucket, state),
        reraise=True,
    )(once)


def _gives_up(state: "tenacity.RetryCallState") -> bool:
    if state.outcome and isinstance(state.outcome.exception(), AwayError):
        has_time = (state.seconds_since_start or 0) < number("PATIENCE")
        return not (has_time and settings() in _answered)
    return state.attempt_number >= number("ATTEMPTS")


def _log_away(bucket: str, state: "tenacity.RetryCallState") -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, AwayError) and bucket not in _away:
        _away.add(bucket)
        log.warning("%s; trying for %d s", error, number("PATIENCE"))


def extra_parameters(operation: str) -> dict[str, str]:
    """The parameters that the settings add to a request: encryption, and who pays."""
    key, parameters = os.environ.get("VISIONFLOWS_S3_KMS_KEY"), {}
    if key and operation in ("put_object", "copy_object", "create_multipart_upload"):
        parameters = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    pays = os.environ.get("VISIONFLOWS_S3_REQUEST_PAYER") == "1"
    if pays and operation != "abort_multipart_upload":  # which has no such parameter
        parameters["RequestPayer"] = "requester"
    return parameters
