"""What an error of boto3 means for a person: the bucket, what is wrong, and what to do.

    raise meaning(error, "get_object", "lab", "1.jpg") from error

Of one object speak FileNotFound-, Changed-, Denied- and RefusedError, perhaps FailingError.
"""

import os
import re
from urllib.parse import urlsplit

from visionflows.errors import DeniedError, StorageError

# What each operation is for a person, and the right it needs; any other writes.
_RIGHTS = {
    "list_objects_v2": ("list", "s3:ListBucket"),
    "list_multipart_uploads": ("list", "s3:ListBucketMultipartUploads"),
    "get_object": ("read", "s3:GetObject"),
    "head_object": ("read", "s3:GetObject"),
    "delete_object": ("delete", "s3:DeleteObject"),
}
_GONE = re.compile("NoSuch(Key|Version|Upload)|404|NotFound")
_CHANGED = re.compile("PreconditionFailed|412|ConditionalRequestConflict|409")
_DENIED = re.compile("AccessDenied|403|Forbidden|AllAccessDisabled|AccountProblem")
_REGION = re.compile(
    "(Permanent|Temporary)Redirect|30[17]|AuthorizationHeaderMalformed|IllegalLocationConstraint.*"
)
_BROKEN = re.compile("BadDigest|XAmzContentSHA256Mismatch|IncompleteBody")
_FAILING = re.compile("InternalError|50[0-4]|ServiceUnavailable|SlowDown|RequestTimeout|Throttling")
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a role"
_OF_ALL = {
    **dict.fromkeys(("NoSuchBucket", "404"), "no such bucket; check its name, AWS_ENDPOINT_URL_S3"),
    "InvalidAccessKeyId": f"the server does not know this access key; {_CREDENTIALS}",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired; renew them",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong by minutes; set it (timedatectl)",
}


class RefusedError(StorageError):
    """The server will not do this to this object, for a reason of its own."""


class FailingError(StorageError):
    """The server answered no try, or each with an error of its own."""


class BrokenError(FailingError):
    """What was sent or answered did not arrive as it was."""


class ChangedError(Exception):
    """The condition of a request does not hold: the object is another one by now."""


def meaning(error: Exception, operation: str, bucket: str, key: str | None) -> Exception:
    """What an error of botocore's means; a line of a read names its key."""
    from botocore.exceptions import ClientError

    verb, right = _RIGHTS.get(operation, ("write", "s3:PutObject"))
    where = f"s3://{bucket}/{key}" if key and verb == "read" else f"s3://{bucket}"
    if not isinstance(error, ClientError):
        return _unanswered(error, " ".join(str(error).split()), where)
    answer, about = error.response["Error"], error.response.get("ResponseMetadata", {})
    code = answer.get("Code", "")
    if _GONE.fullmatch(code) and (key or code == "NoSuchUpload"):  # as rclone says of none at all
        return FileNotFoundError(2, "No such object", key)
    if _CHANGED.fullmatch(code):
        return ChangedError(key)
    if code in _OF_ALL:  # of the bucket, met at a key
        return StorageError(f"s3://{bucket}: {_OF_ALL[code]}" + (f" (met at {key})" if key else ""))
    if _REGION.fullmatch(code):
        named = answer.get("Region") or about.get("HTTPHeaders", {}).get("x-amz-bucket-region")
        lies = f"lies in {named or 'another region'}, not where it was asked for"
        return StorageError(f"{where}: {lies}; set AWS_REGION")
    if _BROKEN.fullmatch(code) or _FAILING.fullmatch(code):
        kind = BrokenError if _BROKEN.fullmatch(code) else FailingError
        times = f"failed {about.get('RetryAttempts', 0) + 1} times in a row ({code})"
        return kind(f"{where}: the server {times}; run it again later")
    if _DENIED.fullmatch(code):
        may_not = f"these credentials may not {verb} there ({code})"
        return DeniedError(f"{where}: {may_not}; allow {right} on it")
    said = " ".join([code, *answer.get("Message", "").split()])
    return RefusedError(f"{where}: cannot {verb} there: {said}")


def _unanswered(error: Exception, said: str, where: str) -> StorageError:
    from botocore import exceptions as known
    from botocore.parsers import ResponseParserError

    kind, told = type(error).__name__, getattr(error, "kwargs", {})
    parts = urlsplit(told.get("endpoint_url") or told.get("proxy_url") or "//the server")
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".removeprefix("://")
    if isinstance(error, known.SSLError):
        found = re.search(r"verify failed: (.+?) \(_ssl", said)
        why = f"no TLS with {server} ({found[1] if found else said})"
        now = os.environ.get("AWS_CA_BUNDLE") or "which is not set"
        todo = f"name the file of who signed its certificate in AWS_CA_BUNDLE ({now})"
        return StorageError(f"{where}: {why}; {todo}")
    unread = (ResponseParserError, AttributeError)  # the second is botocore's own fault
    if isinstance(error, (known.ConnectionError, known.HTTPClientError, *unread)):
        cut = isinstance(error, (known.ResponseStreamingError, *unread))
        todo = "check that it is up and that AWS_ENDPOINT_URL_S3 is right, then run it again"
        line = f"{where}: {server} does not answer ({kind}); {todo}"
        return BrokenError(line) if cut else FailingError(line)
    if "SSO" in kind or isinstance(error, known.TokenRetrievalError):
        return StorageError(f"{where}: no SSO login ({said}); run `aws sso login`")
    # Of the rest some quote a parameter; none of them is a secret.
    if "Credential" in kind or "Token" in kind or not isinstance(error, known.BotoCoreError):
        return StorageError(f"{where}: no credentials that boto3 can use ({said}); {_CREDENTIALS}")
    return StorageError(f"{where}: {said}; check the AWS settings of this machine")
