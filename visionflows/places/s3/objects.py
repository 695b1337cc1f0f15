"""Objects of a bucket as bytes: read and checked, streamed, written whole or not at all.

    from visionflows.places.s3.objects import get, put
    put("lab", "notes.txt", b"…")
    data, tag = get("lab", "notes.txt")

What arrives is checked by the CRC that the server keeps, where it keeps one, and by the MD5 that
most ETags are. A read that is cut, stalls or comes wrong is done again.
"""

import collections
import errno
import hashlib
import io
import logging
import mimetypes
import re

from visionflows.content import TooLarge
from visionflows.digest import sha256_of
from visionflows.errors import PlaceError
from visionflows.places.base import ReadFailed
from visionflows.places.s3.client import (
    ChangedError,
    DeniedError,
    FailingError,
    attempts,
    call,
    pause,
    pool,
)
from visionflows.places.s3.quick import quick

log = logging.getLogger("visionflows.s3")

PART = 16 << 20  # bytes; 10,000 parts, the most there may be, make 160 GB
CHUNK = 8 << 20  # bytes of a large object that are asked for at once
IN_FLIGHT = 4  # parts or chunks of one object


def get(
    bucket: str, key: str, version: str = "", span: str = "", most: int | None = None
) -> tuple[bytes, str]:
    """The bytes of an object (or of a `span` such as `bytes=0-99`), and its ETag.

    Raises FileNotFoundError; ReadFailed where it is not the `version` that was listed, may not be
    read, or does not arrive whole; TooLarge, unread, for more than `most` bytes; PlaceError where
    nothing can be read from the bucket.
    """
    condition = {"IfMatch": f'"{version}"'} if version and version[0] != "@" else {}
    if span:
        condition["Range"] = span
    seen = ""
    for attempt in range(attempts()):
        data, answer = _body(bucket, key, condition, most)
        if data is not None:
            tag = tag_of(answer)
            if condition.get("IfMatch", tag).strip('"') != tag:
                raise ReadFailed(errno.EPROTO, _CHANGED, key)
            if span or _is_right(data, answer):
                return data, tag
            # Not its MD5: broken on the way, or an ETag that is none. Twice alike is the latter.
            digest = sha256_of(data)
            if digest == seen:
                return data, tag
            seen = digest
        pause(attempt)
    raise ReadFailed(errno.EPROTO, f"did not arrive whole in {attempts()} tries", key)


_CHANGED = "changed after it was listed"


def _body(bucket: str, key: str, condition: dict, most: int | None) -> tuple[bytes | None, dict]:
    """One try: the bytes, or None where they broke on the way."""
    from botocore.exceptions import (
        FlexibleChecksumError,
        HTTPClientError,
        IncompleteReadError,
    )

    match = condition.get("IfMatch", "")
    if "Range" not in condition and (found := quick(bucket, key, match, most)):
        return found
    try:
        answer = call("get_object", bucket, Key=key, ChecksumMode="ENABLED", **condition)
        if most is not None and answer["ContentLength"] > most:
            answer["Body"].close()
            raise TooLarge(answer["ContentLength"])
        return answer["Body"].read(), answer
    except (IncompleteReadError, FlexibleChecksumError, HTTPClientError):
        return None, {}
    except ChangedError as error:
        raise ReadFailed(errno.EPROTO, _CHANGED, key) from error
    except DeniedError as error:
        raise ReadFailed(errno.EACCES, "these credentials may not read it", key) from error
    except FailingError as error:
        call("list_objects_v2", bucket, MaxKeys=1)  # raises where it is not this object alone
        raise ReadFailed(
            errno.EPROTO, f"the server fails to give it ({attempts()} tries)", key
        ) from error


def tag_of(answer: dict) -> str:
    """The ETag in an answer or a listing, without the quotes that some servers leave out."""
    return answer.get("ETag", "").removeprefix("W/").strip('"')


def _is_right(data: bytes, answer: dict) -> bool:
    if len(data) != answer["ContentLength"]:
        return False
    if any(answer.get(f"Checksum{kind}") for kind in ("CRC32", "SHA1", "SHA256")):
        return True  # it was compared; of the other kinds botocore knows none by itself
    return _may_be(tag_of(answer), data, answer)


def _may_be(tag: str, data: bytes, answer: dict) -> bool:
    """Whether an ETag is the MD5 of the bytes, or tells nothing about them."""
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256"
    if encrypted or "SSECustomerAlgorithm" in answer or not re.fullmatch("[0-9a-f]{32}", tag):
        return True
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == tag


def put(bucket: str, key: str, data: bytes, **condition) -> str:
    """Write an object by one request; its ETag. Raises ChangedError where `condition` fails."""
    seen = ""
    for _ in range(attempts()):
        answer = call("put_object", bucket, Key=key, Body=data, **told_as(key), **condition)
        tag = tag_of(answer)
        if _may_be(tag, data, answer) or tag == seen:
            return tag
        seen = tag
    raise PlaceError(f"s3://{bucket}/{key}: does not arrive as it is sent; check the network")


def told_as(key: str) -> dict[str, str]:
    """Content type and disposition: pages and pictures open in a browser, tables are saved."""
    name = key.rpartition("/")[2]
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    shown = kind in ("text/html", "application/json") or kind.startswith("image/")
    if kind.startswith("text/") or kind == "application/json":
        kind += "; charset=utf-8"
    if not shown and re.fullmatch(r"[\w.-]+\.csv", name, re.ASCII):
        return {"ContentType": kind, "ContentDisposition": f'attachment; filename="{name}"'}
    return {"ContentType": kind} | ({"ContentDisposition": "inline"} if shown else {})


class Upload(io.RawIOBase):
    """A file to fill that becomes an object when `finish` is called, and never before.

    Small ones go by one request, others by parts that are sent while more is written, so that
    memory stays flat.
    """

    def __init__(self, bucket: str, key: str):
        self.bucket, self.key = bucket, key
        self._buffer, self._upload, self._count = bytearray(), "", 0
        self._sent: list[tuple[int, str]] = []
        self._sending: collections.deque = collections.deque()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._buffer += data
        while len(self._buffer) >= PART:
            self._send(bytes(self._buffer[:PART]))
            del self._buffer[:PART]
        return len(data)

    def finish(self) -> None:
        """Let the object be there, with all that was written."""
        if not self._upload:
            put(self.bucket, self.key, bytes(self._buffer))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        while self._sending:
            self._sent.append(self._sending.popleft().result())
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in self._sent]
        try:
            self._call("complete_multipart_upload", MultipartUpload={"Parts": parts})
        except PlaceError:
            if not self._is_there():  # else the answer to an earlier try was lost
                raise

    def abort(self) -> None:
        """Let nothing be left of it."""
        for future in self._sending:
            future.cancel()
        if self._upload:
            abort_upload(self.bucket, self.key, self._upload)
        under_way = [future for future in self._sending if not future.cancelled()]
        for future in under_way:
            future.exception()
        if under_way:  # a part that arrived after the abort is kept, and paid for
            abort_upload(self.bucket, self.key, self._upload)

    def _send(self, data: bytes) -> None:
        if not self._upload:
            answer = call("create_multipart_upload", self.bucket, Key=self.key, **told_as(self.key))
            self._upload = answer["UploadId"]
        if len(self._sending) == IN_FLIGHT:
            self._sent.append(self._sending.popleft().result())
        self._count += 1
        self._sending.append(pool().submit(self._part, self._count, data))

    def _part(self, number: int, data: bytes) -> tuple[int, str]:
        seen = ""
        for _ in range(attempts()):
            answer = self._call("upload_part", PartNumber=number, Body=data)
            tag = tag_of(answer)
            if _may_be(tag, data, answer) or tag == seen:
                return number, answer["ETag"]
            seen = tag
        raise PlaceError(f"s3://{self.bucket}/{self.key}: does not arrive as it is sent")

    def _call(self, operation: str, **parameters) -> dict:
        return call(operation, self.bucket, Key=self.key, UploadId=self._upload, **parameters)

    def _is_there(self) -> bool:
        parts = f"-{len(self._sent)}"
        try:
            return tag_of(call("head_object", self.bucket, Key=self.key)).endswith(parts)
        except FileNotFoundError:
            return False


def abort_upload(bucket: str, key: str, upload: str) -> None:
    """Take the parts of an upload away that will not be completed."""
    try:
        call("abort_multipart_upload", bucket, Key=key, UploadId=upload)
    except FileNotFoundError:
        pass  # gone already
    except PlaceError as error:
        log.warning("an unfinished upload of %s stays behind: %s", key, error)


class Download(io.RawIOBase):
    """An object as a stream, its next chunks on their way while one is read.

    All chunks are of the version that the first request found. At the end the whole is compared
    with an ETag that is an MD5. Raises FileNotFoundError, ReadFailed and PlaceError.
    """

    def __init__(self, bucket: str, key: str):
        answer = call("head_object", bucket, Key=key)
        self.bucket, self.key, self.head = bucket, key, answer
        self.size, self._next, self._chunk = answer["ContentLength"], 0, memoryview(b"")
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._coming: collections.deque = collections.deque()
        for _ in range(IN_FLIGHT):
            self._ask()

    def readable(self) -> bool:
        return True

    def _ask(self) -> None:
        start = self._next
        if start < self.size:
            self._next = min(start + CHUNK, self.size)
            self._coming.append(pool().submit(self._get, start, self._next - 1))

    def _get(self, first: int, last: int) -> bytes:
        data, _ = get(self.bucket, self.key, tag_of(self.head), f"bytes={first}-{last}")
        if len(data) != last - first + 1:
            raise ReadFailed(errno.EPROTO, "does not arrive whole", self.key)
        return data

    def readinto(self, buffer) -> int:
        if not self._chunk and self._coming:
            data = self._coming.popleft().result()
            self._ask()
            self._md5.update(data)
            self._chunk = memoryview(data)
            if not self._coming:
                self._check()
        count = min(len(buffer), len(self._chunk))
        buffer[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def _check(self) -> None:
        tag, encrypted = tag_of(self.head), self.head.get("ServerSideEncryption", "AES256")
        if encrypted == "AES256" and re.fullmatch("[0-9a-f]{32}", tag):
            md5 = self._md5.hexdigest()
            if md5 != tag:
                raise ReadFailed(errno.EPROTO, f"arrived with the MD5 {md5}, not {tag}", self.key)

    def close(self) -> None:
        for future in self._coming:
            future.cancel()
        super().close()
