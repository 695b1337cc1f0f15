"""Objects of a bucket: read and verified, or written atomically; large ones in parts.

What arrives is verified by the CRC that the server keeps, if any, and by the MD5 that most ETags
are; what is sent carries its MD5. A response that is cut, stalls or arrives broken is retried.
"""

import base64
import concurrent.futures
import contextlib
import errno
import hashlib
import io
import mimetypes
import re
import zlib
from collections.abc import Generator
from typing import Any, cast

from visionflows.bounded_read import TooLarge
from visionflows.errors import DeniedError, StorageError
from visionflows.hashing import md5_of, sha256_of
from visionflows.storage.base import LISTED, MISSING, ReadFailed
from visionflows.storage.prefetch import prefetch, threads
from visionflows.storage.s3.client import Response, call, connection, log, number
from visionflows.storage.s3.error_messages import (
    BrokenError,
    ChangedError,
    FailingError,
    RefusedError,
    UnsupportedError,
)

PART = 16 << 20  # bytes; S3's limit of 10,000 parts makes 160 GB
CHUNK = 8 << 20  # bytes of a large object that are requested at once
IN_FLIGHT = 4  # parts or chunks of one object
MD5 = re.compile("[0-9a-f]{32}")  # an ETag that looks like one; with KMS it is not


def get(
    bucket: str, key: str, version: str = "", span: str = "", max_bytes: int | None = None
) -> tuple[bytes, str]:
    """The bytes of an object (or of a `span` such as `bytes=0-99`), and its ETag.

    Raises FileNotFoundError; ReadFailed if this object (as `version`) cannot be read; TooLarge,
    unread, for more than `max_bytes`; StorageError.
    """
    known = "" if version in (LISTED, MISSING) or version[:1] == "@" else version
    options = ({"IfMatch": f'"{known}"'} if known else {}) | ({"Range": span} if span else {})
    changed, seen = ReadFailed(errno.EPROTO, "changed after it was listed", key), set[str]()

    def read(response: Response) -> tuple[bytes, str]:
        if known not in ("", etag(response)):
            raise changed
        if max_bytes is not None and response["ContentLength"] > max_bytes:
            raise TooLarge(response["ContentLength"])
        data = _read_body(response, is_span=bool(span))
        if (
            not span
            and not _is_verified(data, response)
            and (digest := sha256_of(data)) not in seen
        ):
            seen.add(digest)  # the same bytes twice: the ETag is no MD5
            raise BrokenError("it arrives broken")
        return data, etag(response)

    try:
        result = call("get_object", bucket, read, Key=key, ChecksumMode="ENABLED", **options)
        return cast(tuple[bytes, str], result)
    except ChangedError as error:
        raise changed from error
    except (DeniedError, RefusedError, FailingError) as error:
        if isinstance(error, FailingError):
            call("list_objects_v2", bucket, MaxKeys=1)  # raises if the whole bucket fails
        reason = str(error).removeprefix(f"s3://{bucket}/{key}: ")
        raise ReadFailed(errno.EPROTO, reason, key) from error


def _read_body(response: Response, is_span: bool) -> bytes:
    from botocore.exceptions import FlexibleChecksumError, HTTPClientError, IncompleteReadError

    # A server may send the checksum of the whole object with a span. botocore compares it at the
    # end of the body, so exactly the span's bytes are read.
    size = response["ContentLength"]
    try:
        data: bytes = response["Body"].read(*([size] if is_span else []))
    except (IncompleteReadError, FlexibleChecksumError, HTTPClientError) as error:
        raise BrokenError("it does not arrive complete") from error
    if is_span and len(data) != size:
        raise BrokenError("it does not arrive complete")
    return data


def etag(response: Response) -> str:
    """The ETag in a response or a listing, without quotes, which some servers leave out."""
    return str(response.get("ETag", "")).removeprefix("W/").strip('"')


def _has_md5(response: Response) -> bool:
    plain = response.get("ServerSideEncryption", "AES256") == "AES256"
    return plain and "SSECustomerAlgorithm" not in response and bool(MD5.fullmatch(etag(response)))


def _is_verified(data: bytes, response: Response) -> bool:
    # botocore has compared these checksums; it knows no others by itself.
    compared = any(response.get(f"Checksum{kind}") for kind in ("CRC32", "SHA1", "SHA256"))
    return compared or not _has_md5(response) or md5_of(data) == etag(response)


def put(bucket: str, key: str, data: bytes, **condition: Any) -> str:
    """Write an object with one request, and return its ETag. Raises ChangedError.

    Where the server does not know a `condition` (Ceph, older MinIO), the object is written without.
    """
    content = {"Key": key, **_body(data), **content_headers(key)}
    try:
        return etag(call("put_object", bucket, **content, **condition))
    except UnsupportedError:
        if not condition:
            raise
        return etag(call("put_object", bucket, **content))


def _body(data: bytes) -> dict[str, Any]:
    """The body with its checksums as headers; boto3's trailers are unknown to some servers."""
    sums = {"ContentMD5": hashlib.md5(data, usedforsecurity=False).digest()}
    if connection()[1].meta.config.request_checksum_calculation == "when_supported":
        sums["ChecksumCRC32"] = zlib.crc32(data).to_bytes(4, "big")
    return {"Body": data} | {name: base64.b64encode(sums[name]).decode() for name in sums}


def content_headers(key: str) -> dict[str, Any]:
    """Content type and disposition: pages and images open in a browser, CSV files are saved."""
    name = key.rpartition("/")[2]
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    inline = kind in ("text/html", "application/json") or kind.startswith("image/")
    if kind.startswith("text/") or kind == "application/json":
        kind += "; charset=utf-8"
    if not inline and re.fullmatch(r"[\w.-]+\.csv", name, re.ASCII):
        return {"ContentType": kind, "ContentDisposition": f'attachment; filename="{name}"'}
    return {"ContentType": kind} | ({"ContentDisposition": "inline"} if inline else {})


class Upload(io.RawIOBase):
    """A file to write, in parts if it is large; it becomes an object when `finish` is called."""

    def __init__(self, bucket: str, key: str):
        self.bucket, self.key, self._upload = bucket, key, ""
        self._rest = bytearray()  # written, and not sent yet
        self._parts: list[concurrent.futures.Future[Response]] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._rest += data
        while len(self._rest) >= PART:
            self._send(bytes(self._rest[:PART]))
            del self._rest[:PART]
        return len(data)

    def _send(self, data: bytes) -> None:
        if not self._upload:
            headers = content_headers(self.key)
            response = call("create_multipart_upload", self.bucket, Key=self.key, **headers)
            self._upload = response["UploadId"]
        for part in self._parts[-IN_FLIGHT:][:1]:  # those before it were waited for
            part.result()
        sent = {"PartNumber": len(self._parts) + 1, **_body(data)}
        self._parts.append(threads(number("CONNECTIONS")).submit(self._call, "upload_part", **sent))

    def _call(self, operation: str, **parameters: Any) -> Any:
        return call(operation, self.bucket, Key=self.key, UploadId=self._upload, **parameters)

    def finish(self) -> None:
        """Make what was written an object."""
        if not self._upload:
            put(self.bucket, self.key, bytes(self._rest))
            return
        if self._rest:
            self._send(bytes(self._rest))
        tags = enumerate((part.result()["ETag"] for part in self._parts), 1)
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in tags]
        try:
            self._call("complete_multipart_upload", MultipartUpload={"Parts": parts})
        except (StorageError, FileNotFoundError) as error:
            with contextlib.suppress(FileNotFoundError):
                found = etag(call("head_object", self.bucket, Key=self.key))
                if found.endswith(f"-{len(parts)}"):
                    return  # the response to an earlier attempt was lost
            location = f"s3://{self.bucket}/{self.key}"
            raise StorageError(f"{location}: its upload cannot be completed ({error})") from error

    def abort(self) -> None:
        """Discard what was written."""
        for part in self._parts:
            part.cancel()
        concurrent.futures.wait(self._parts)  # a part sent after an abort would be kept, and billed
        if self._upload:
            abort_upload(self.bucket, self.key, self._upload)


def abort_upload(bucket: str, key: str, upload: str) -> None:
    """Delete the parts of an unfinished upload."""
    try:
        call("abort_multipart_upload", bucket, Key=key, UploadId=upload)
    except (StorageError, FileNotFoundError) as error:
        log.info("an unfinished upload of %s is gone already, or remains: %s", key, error)


class ChunkReader(io.RawIOBase):
    """A stream of bytes from chunks, each of which is taken when it is needed."""

    def __init__(self, chunks: Generator[bytes, None, None]):
        self._chunks, self._chunk = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._chunk = self._chunk or memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._chunk))
        buffer[:count], self._chunk = self._chunk[:count], self._chunk[count:]
        return count

    def close(self) -> None:
        self._chunks.close()
        super().close()


def chunks(bucket: str, key: str, head: Response) -> Generator[bytes, None, None]:
    """A large object, as `head` describes it, in chunks; the next ones are prefetched.

    All of it is compared with an ETag that is an MD5. Raises ReadFailed, and as `get` does.
    """
    tag, size = etag(head), head["ContentLength"]

    def chunk(start: int) -> bytes:
        end = min(start + CHUNK, size)
        data = get(bucket, key, tag, f"bytes={start}-{end - 1}")[0]
        if len(data) != end - start:
            raise ReadFailed(errno.EPROTO, "does not arrive complete", key)
        return data

    md5, received = hashlib.md5(usedforsecurity=False), 0
    for data in prefetch(chunk, range(0, size, CHUNK), number("CONNECTIONS"), IN_FLIGHT):
        md5.update(data)
        received += len(data)
        if received == size and _has_md5(head) and (found := md5.hexdigest()) != tag:
            raise ReadFailed(errno.EPROTO, f"arrived with the MD5 {found}, not {tag}", key)
        yield data
