"""Errors of boto3 as one line each: the bucket, what is wrong, and what to do.

FileNotFoundError, ChangedError, DeniedError and RefusedError concern one object; FailingError may.
"""

import os
import re
from urllib.parse import urlsplit

from visionflows.errors import DeniedError, StorageError

# The verb of each operation, and the permission it needs; any other operation writes.
_PERMISSIONS = {
    "list_objects_v2": ("list", "s3:ListBucket"),
    "list_multipart_uploads": ("list", "s3:ListBucketMultipartUploads"),
    "get_object": ("read", "s3:GetObject"),
    "head_object": ("read", "s3:GetObject"),
    "delete_object": ("delete", "s3:DeleteObject"),
}
_NOT_FOUND = re.compile("NoSuch(Key|Version|Upload)|404|NotFound")
_CHANGED = re.compile("PreconditionFailed|412|ConditionalRequestConflict|409")
_DENIED = re.compile("AccessDenied|403|Forbidden|AllAccessDisabled|AccountProblem")
_REGION = re.compile(
    "(Permanent|Temporary)Redirect|30[17]|AuthorizationHeaderMalformed|IllegalLocationConstraint.*"
)
_BROKEN = re.compile("BadDigest|XAmzContentSHA256Mismatch|IncompleteBody")
_FAILING = re.compile("InternalError|500|SlowDown|RequestTimeout|Throttling")
_AWAY = re.compile(
    "50[234]|ServiceUnavailable|BadGateway|GatewayTimeout|XMinioServerNotInitialized"
)
_UNSUPPORTED = re.compile("NotImplemented|501")
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a role"
_BUCKET_ERRORS = {
    **dict.fromkeys(("NoSuchBucket", "404"), "no such bucket; check its name, AWS_ENDPOINT_URL_S3"),
    "InvalidAccessKeyId": f"the server does not know this access key; {_CREDENTIALS}",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong by minutes; set it (timedatectl)",
}


class RefusedError(StorageError):
    """The server refuses to do this to this object, for another reason."""


class UnsupportedError(RefusedError):
    """The server does not know this kind of request."""


class FailingError(StorageError):
    """The server answered no attempt, or each with an error of its own."""


class AwayError(FailingError):
    """The server is away: nothing answers, or only a gateway before it."""


class BrokenError(FailingError):
    """A request or response was damaged on its way."""


class ChangedError(Exception):
    """The condition of a request failed: the object has another version by now."""


def translate_error(error: Exception, operation: str, bucket: str, key: str | None) -> Exception:
    """The error to raise for one of botocore's; its line names the key if that was read."""
    from botocore.exceptions import ClientError

    verb, permission = _PERMISSIONS.get(operation, ("write", "s3:PutObject"))
    location = f"s3://{bucket}/{key}" if key and verb == "read" else f"s3://{bucket}"
    if not isinstance(error, ClientError):
        return _translate_no_response(error, " ".join(str(error).split()), location)
    details, metadata = error.response["Error"], error.response.get("ResponseMetadata", {})
    code = details.get("Code", "")
    if _NOT_FOUND.fullmatch(code) and (key or code == "NoSuchUpload"):  # rclone, if there is none
        return FileNotFoundError(2, "No such object", key)
    if _CHANGED.fullmatch(code):
        return ChangedError(key)
    if code in _BUCKET_ERRORS:
        met = f" (met at {key})" if key else ""
        return StorageError(f"s3://{bucket}: {_BUCKET_ERRORS[code]}{met}")
    if _REGION.fullmatch(code):
        headers = metadata.get("HTTPHeaders", {})
        region = details.get("Region") or headers.get("x-amz-bucket-region") or "another region"
        return StorageError(f"{location}: is in {region}, not in the one asked; set AWS_REGION")
    kinds = {_BROKEN: BrokenError, _FAILING: FailingError, _AWAY: AwayError}
    if kind := next((kind for codes, kind in kinds.items() if codes.fullmatch(code)), None):
        times = f"failed {metadata.get('RetryAttempts', 0) + 1} times in a row ({code})"
        return kind(f"{location}: the server {times}; run it again later")
    if _DENIED.fullmatch(code):
        reason = f"these credentials may not {verb} there ({code})"
        return DeniedError(f"{location}: {reason}; allow {permission} on it")
    message = " ".join([code, *details.get("Message", "").split()])
    if "checksum" in message.lower():
        message += "; set AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
    refusal = UnsupportedError if _UNSUPPORTED.fullmatch(code) else RefusedError
    return refusal(f"{location}: cannot {verb} there: {message}")


def _translate_no_response(error: Exception, message: str, location: str) -> StorageError:
    """The error for a request that got no valid response."""
    from botocore import exceptions as known
    from botocore.parsers import ResponseParserError

    kind, values = type(error).__name__, getattr(error, "kwargs", {})
    parts = urlsplit(values.get("endpoint_url") or values.get("proxy_url") or "//the server")
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".removeprefix("://")
    if isinstance(error, known.SSLError):
        found = re.search(r"verify failed: (.+?) \(_ssl", message)
        reason = f"no TLS with {server} ({found[1] if found else message})"
        bundle = os.environ.get("AWS_CA_BUNDLE") or "which is not set"
        todo = f"set AWS_CA_BUNDLE to the file of the certificate's authority ({bundle})"
        return StorageError(f"{location}: {reason}; {todo}")
    broken = (ResponseParserError, AttributeError)  # the second is a bug of botocore
    if isinstance(error, (known.ConnectionError, known.HTTPClientError, *broken)):
        cut = isinstance(error, (known.ResponseStreamingError, *broken))
        todo = "check that it is up and that AWS_ENDPOINT_URL_S3 is right, then run it again"
        line = f"{location}: {server} does not answer ({kind}); {todo}"
        return BrokenError(line) if cut else AwayError(line)
    if "SSO" in kind or isinstance(error, known.TokenRetrievalError):
        return StorageError(f"{location}: no SSO login ({message}); run `aws sso login`")
    # Some of the other messages quote a parameter; none is a secret.
    if "Credential" in kind or "Token" in kind or not isinstance(error, known.BotoCoreError):
        reason = f"no credentials that boto3 can use ({message})"
        return StorageError(f"{location}: {reason}; {_CREDENTIALS}")
    return StorageError(f"{location}: {message}; check the AWS settings of this machine")
