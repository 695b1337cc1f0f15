"""Objects of a bucket: read and checked, or written whole or not at all; large ones by parts.

    data, tag = get("lab", "notes.txt")

What arrives is checked by the CRC that the server keeps, where it keeps one, and by the MD5 that
most ETags are; what is sent goes with its MD5. What is cut, stalls or comes wrong is done again.
"""

import base64
import concurrent.futures
import contextlib
import errno
import hashlib
import re
import zlib
from collections.abc import Generator
from typing import Any, cast

from visionflows.bounded_read import TooLarge
from visionflows.errors import DeniedError, StorageError
from visionflows.hashing import md5_of, sha256_of
from visionflows.storage.base import LISTED, MISSING, ReadFailed
from visionflows.storage.prefetch import prefetch, threads
from visionflows.storage.s3.chunks import ChunkWriter
from visionflows.storage.s3.client import Answer, call, connection, log, number
from visionflows.storage.s3.content_type import content_headers
from visionflows.storage.s3.error_messages import (
    BrokenError,
    ChangedError,
    FailingError,
    RefusedError,
)

PART = 16 << 20  # bytes; 10,000 parts, the most there may be, make 160 GB
CHUNK = 8 << 20  # bytes of a large object that are asked for at once
IN_FLIGHT = 4  # parts or chunks of one object
MD5 = re.compile("[0-9a-f]{32}")  # an ETag that looks like one; of KMS it is none all the same
Got = tuple[bytes, str]


def get(bucket: str, key: str, version: str = "", span: str = "", most: int | None = None) -> Got:
    """The bytes of an object (or of a `span` such as `bytes=0-99`), and its ETag.

    Raises FileNotFoundError; ReadFailed where it alone (as `version`) cannot be had; TooLarge,
    unread, for more than `most` bytes; PlaceError.
    """
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    known = "" if version in (LISTED, MISSING) or version[:1] == "@" else version
    asked = ({"IfMatch": f'"{known}"'} if known else {}) | ({"Range": span} if span else {})
    changed, seen = ReadFailed(errno.EPROTO, "changed after it was listed", key), set()

    def whole(answer: Answer) -> Got:
        if known not in ("", tag_of(answer)):
            raise changed
        if most is not None and answer["ContentLength"] > most:
            raise TooLarge(answer["ContentLength"])
        try:
            # A server may send the checksum of all of it with a span, which botocore compares at
            # the end of the body: so that is not asked for.
            data = answer["Body"].read(*([answer["ContentLength"]] if span else []))
        except (IncompleteReadError, FlexibleChecksumError, HTTPClientError) as error:
            raise BrokenError("it does not arrive whole") from error
        if span and len(data) != answer["ContentLength"]:
            raise BrokenError("it does not arrive whole")
        if not span and not _is_right(data, answer) and (digest := sha256_of(data)) not in seen:
            seen.add(digest)  # broken, or an ETag that is no MD5: twice alike is the latter
            raise BrokenError("it arrives broken")
        return data, tag_of(answer)

    try:
        return cast(
            Got, call("get_object", bucket, whole, Key=key, ChecksumMode="ENABLED", **asked)
        )
    except ChangedError as error:
        raise changed from error
    except (DeniedError, RefusedError, FailingError) as error:
        if isinstance(error, FailingError):
            call("list_objects_v2", bucket, MaxKeys=1)  # raises where it is not this object alone
        why = str(error).removeprefix(f"s3://{bucket}/{key}: ")
        raise ReadFailed(errno.EPROTO, why, key) from error


def tag_of(answer: Answer) -> str:
    """The ETag in an answer or a listing, without the quotes that some servers leave out."""
    return str(answer.get("ETag", "")).removeprefix("W/").strip('"')


def _has_md5(answer: Answer) -> bool:
    plain = answer.get("ServerSideEncryption", "AES256") == "AES256"
    return plain and "SSECustomerAlgorithm" not in answer and bool(MD5.fullmatch(tag_of(answer)))


def _is_right(data: bytes, answer: Answer) -> bool:
    # The CRC was compared; of its other kinds botocore knows none by itself.
    compared = any(answer.get(f"Checksum{kind}") for kind in ("CRC32", "SHA1", "SHA256"))
    return compared or not _has_md5(answer) or md5_of(data) == tag_of(answer)


def put(bucket: str, key: str, data: bytes, **condition: Any) -> None:
    """Write an object by one request. Raises ChangedError where `condition` fails."""
    call("put_object", bucket, Key=key, **_summed(data), **content_headers(key), **condition)


def _summed(data: bytes) -> dict[str, Any]:
    """What is sent, with its sums as headers: boto3 has a trailer, which not all servers know."""
    sums = {"ContentMD5": hashlib.md5(data, usedforsecurity=False).digest()}
    if connection()[1].meta.config.request_checksum_calculation == "when_supported":
        sums["ChecksumCRC32"] = zlib.crc32(data).to_bytes(4, "big")
    return {"Body": data} | {name: base64.b64encode(sums[name]).decode() for name in sums}


class Upload(ChunkWriter):
    """A file to fill, by parts if it is large; an object when `finish` is called, never before."""

    def __init__(self, bucket: str, key: str):
        super().__init__(self._send, PART)
        self.bucket, self.key, self._upload = bucket, key, ""
        self._parts: list[concurrent.futures.Future[Answer]] = []

    def _send(self, data: bytes) -> None:
        if not self._upload:
            begun = call(
                "create_multipart_upload", self.bucket, Key=self.key, **content_headers(self.key)
            )
            self._upload = begun["UploadId"]
        for part in self._parts[-IN_FLIGHT:][:1]:  # all before it have been waited for
            part.result()
        sent = {"PartNumber": len(self._parts) + 1, **_summed(data)}
        self._parts.append(threads(number("CONNECTIONS")).submit(self._call, "upload_part", **sent))

    def _call(self, operation: str, **parameters: Any) -> Any:
        return call(operation, self.bucket, Key=self.key, UploadId=self._upload, **parameters)

    def finish(self) -> None:
        """Let the object be there, with all that was written."""
        if not self._upload:
            put(self.bucket, self.key, bytes(self.rest))
            return
        if self.rest:
            self._send(bytes(self.rest))
        tags = enumerate((part.result()["ETag"] for part in self._parts), 1)
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in tags]
        try:
            self._call("complete_multipart_upload", MultipartUpload={"Parts": parts})
        except (StorageError, FileNotFoundError) as error:
            with contextlib.suppress(FileNotFoundError):
                there = tag_of(call("head_object", self.bucket, Key=self.key))
                if there.endswith(f"-{len(parts)}"):
                    return  # the answer to an earlier try was lost
            where = f"s3://{self.bucket}/{self.key}"
            raise StorageError(f"{where}: its upload cannot be completed ({error})") from error

    def abort(self) -> None:
        """Let nothing be left of it."""
        for part in self._parts:
            part.cancel()
        concurrent.futures.wait(self._parts)  # one that came after an abort would be kept, and paid
        if self._upload:
            abort_upload(self.bucket, self.key, self._upload)


def abort_upload(bucket: str, key: str, upload: str) -> None:
    """Take the parts of an upload away that will not be completed."""
    try:
        call("abort_multipart_upload", bucket, Key=key, UploadId=upload)
    except (StorageError, FileNotFoundError) as error:
        log.info("an unfinished upload of %s is gone, or stays behind: %s", key, error)


def chunks(bucket: str, key: str, head: Answer) -> Generator[bytes, None, None]:
    """A large object as `head` tells of it, in chunks, the next ones on their way meanwhile.

    The whole is compared with an ETag that is an MD5. Raises ReadFailed, and what `get` does.
    """
    tag, size = tag_of(head), head["ContentLength"]

    def chunk(start: int) -> bytes:
        end = min(start + CHUNK, size)
        data = get(bucket, key, tag, f"bytes={start}-{end - 1}")[0]
        if len(data) != end - start:
            raise ReadFailed(errno.EPROTO, "does not arrive whole", key)
        return data

    md5, got = hashlib.md5(usedforsecurity=False), 0
    for data in prefetch(chunk, range(0, size, CHUNK), number("CONNECTIONS"), IN_FLIGHT):
        md5.update(data)
        got += len(data)
        if got == size and _has_md5(head) and (found := md5.hexdigest()) != tag:
            raise ReadFailed(errno.EPROTO, f"arrived with the MD5 {found}, not {tag}", key)
        yield data
