"""Reading many objects: obstore, refused responses, and the fallback to boto3."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fault_proxy import faulty
from s3_server import KEY, SECRET, environment, rclone

from visionflows.images.formats import ImageFilter
from visionflows.storage import open_storage
from visionflows.storage.base import Entry
from visionflows.storage.s3 import bulk_read, client
from visionflows.storage.s3.bulk_read import reader

ROOT = Path(__file__).parents[2]
OBSTORE, BOTO3 = "visionflows", "Boto3"
NAMES = ["a b.jpg", "a+b.jpg", "a%20b.jpg", "Zoë/犬.jpg", "a&<b>.jpg", "=1.jpg", "~x'(!)*,;:@$.jpg"]
NAMES += ["[1]{2}|^`.jpg", "back\\slash.jpg", '"quoted"?#.jpg', "..a/b../.c", "x.jpg/y"]


@pytest.fixture
def proxy(s3, monkeypatch):
    """A proxy before the server that makes faults and records the requests."""
    with faulty(s3.url, rate=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


def read_all(here) -> list:
    return list(here.read_many(list(here.walk())))


def test_names_of_every_kind_are_read_through_obstore(bucket, proxy):
    for name in NAMES:
        bucket.write(name, name.encode())
    entries = list(bucket.walk())
    assert {entry.name for entry in entries} == {name for name in NAMES if name != "..a/b../.c"}
    assert list(bucket.read_many(entries)) == [entry.name.encode() for entry in entries]
    assert proxy.readers == {OBSTORE}


def test_files_without_an_ending_are_asked_for_what_they_are_at_once(bucket, proxy):
    for number in range(40):
        bucket.write(f"{number:02d}", b"\xff\xd8\xff")
    entries, proxy.delay, began = [*bucket.walk()], 0.1, time.monotonic()
    assert len([*ImageFilter(bucket.heads)(entries)]) == 40
    assert time.monotonic() - began < 40 * proxy.delay / 2


def test_names_that_obstore_refuses_are_read_through_boto3(tmp_path, monkeypatch):
    """The server lists such a name differently after a refresh."""
    (tmp_path / "buckets/b-names").mkdir(parents=True)
    with (
        rclone(tmp_path / "buckets", tmp_path / "log", look_again="1h") as server,
        faulty(server.url, rate=0) as proxy,
    ):
        for name, value in environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        bucket = open_storage("s3://b-names/in")
        bucket.write("two\nlines.jpg", b"two")
        assert read_all(bucket) == [b"two"]
        assert proxy.readers == {BOTO3}


def test_a_key_never_returns_another_object(strict):
    names = ["lead", "/lead", "a/b", "a//b", "a/./b", "a/../b", "../b", "b", "a/b/"]
    for name in names:
        strict.write(name, name.encode())
    tags = {name: hashlib.md5(name.encode()).hexdigest() for name in names}
    entries = [Entry(name, len(name), tags[name]) for name in names]
    assert list(strict.read_many(entries)) == [name.encode() for name in names]


def test_the_listed_version_is_requested(strict, monkeypatch):
    with faulty(os.environ["AWS_ENDPOINT_URL_S3"], rate=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        strict.write("a", b"a")
        assert read_all(strict) == [b"a"]
        (asked,) = [
            one for one in proxy.seen if one.head.startswith(b"GET /b-") and b"?" not in one.head
        ]
    assert asked.header("if-match").strip(b'"').decode() == hashlib.md5(b"a").hexdigest()


def test_multipart_objects_are_read_by_boto3(strict, monkeypatch):
    monkeypatch.setattr("visionflows.storage.s3.objects.PART", 5 << 20)
    strict.write("large", bytes(6 << 20))
    with faulty(os.environ["AWS_ENDPOINT_URL_S3"], rate=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        assert read_all(strict) == [bytes(6 << 20)]
    assert proxy.readers == {BOTO3}


# Refused responses


@contextlib.contextmanager
def answering(*answers: bytes):
    """A server that sends these responses on each connection, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        for answer in answers:
                            connection.recv(1 << 16)
                            connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


TAG = hashlib.md5(b"abc").hexdigest()
HEAD = (
    f'HTTP/1.1 200 OK\r\nETag: "{TAG}"\r\nLast-Modified: Tue, 01 Jan 2019 00:00:00 GMT\r\n'.encode()
)
WHOLE = HEAD + b"Content-Length: 3\r\n\r\nabc"


def test_a_complete_response_is_accepted(s3, monkeypatch):
    with answering(WHOLE, WHOLE) as url:  # closing the connection is not a fault
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        assert [reader("lab").read_with_obstore("a", TAG) for _ in range(5)] == [b"abc"] * 5


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"SMTP", WHOLE[:-1]),
        HEAD + b"\r\nabc",
        HEAD + b"Content-Length: x\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        HEAD + b"a: b\r\n" * 20 + b"x: " + b"y" * 600_000,
        WHOLE.replace(b"abc", b"abd"),
        WHOLE.replace(TAG.encode(), TAG[::-1].encode()),
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ],
)
def test_incomplete_responses_are_refused(s3, monkeypatch, answer):
    with answering(answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        assert reader("lab").read_with_obstore("a", TAG) is None


@pytest.mark.parametrize("fault", ["500", "503", "reset", "lost", "cut", "flip", "stall"])
def test_boto3_reads_what_a_fault_interrupted(bucket, proxy, monkeypatch, fault):
    monkeypatch.setenv("VISIONFLOWS_S3_TIMEOUT", "1")
    bucket.write("a", b"the whole of it" * 1000)
    (entry,) = bucket.walk()
    proxy.faults, proxy.rate, proxy.most = (fault,), 1, 2  # obstore tries twice
    assert list(bucket.read_many([entry])) == [b"the whole of it" * 1000]
    assert proxy.readers == {OBSTORE, BOTO3}


def test_after_a_fault_boto3_reads_for_a_while(bucket, proxy, monkeypatch):
    bucket.write("a", b"a")
    proxy.faults, proxy.rate = ("503",), 1
    assert (
        reader(bucket.bucket).read_with_obstore(bucket.prefix + "a", hashlib.md5(b"a").hexdigest())
        is None
    )
    proxy.rate = 0
    proxy.seen.clear()
    assert read_all(bucket) == [b"a"]
    assert proxy.readers == {BOTO3}
    proxy.seen.clear()
    monkeypatch.setattr(bulk_read, "FAULT_SECONDS", 0.0)
    assert read_all(bucket) == [b"a"]
    assert proxy.readers == {OBSTORE}


def test_one_refused_object_is_not_a_server_fault(bucket, proxy):
    for name in ("1", "two", "3"):
        bucket.write(name, name.encode())
    entries = list(bucket.walk())
    proxy.answer, proxy.only = (403, "InvalidObjectState"), b"two"
    assert [str(one)[:4] for one in bucket.read_many(entries)][:2] == ["b'1'", "b'3'"]
    proxy.seen.clear()
    assert list(bucket.read_many(entries[:2])) == [b"1", b"3"]
    assert proxy.readers == {OBSTORE}


def test_etags_of_kms_are_detected_once(s3, monkeypatch):
    other = hashlib.md5(b"of what is encrypted").hexdigest()
    headers = b"x-amz-server-side-encryption: aws:kms\r\nConnection: close\r\nContent-Length"
    answer = WHOLE.replace(TAG.encode(), other.encode()).replace(b"Content-Length", headers)
    with answering(answer) as url, faulty(url, rate=0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        for readers in ({OBSTORE, BOTO3}, {BOTO3}):
            proxy.seen.clear()
            assert list(open_storage("s3://lab").read_many([Entry("a", 3, other)])) == [b"abc"]
            assert proxy.readers == readers


# Connection settings


def test_proxy_variables_are_respected(bucket, s3, monkeypatch):
    bucket.write("a", b"a")
    for name in ("NO_PROXY", "no_proxy"):  # a command in this process may have set it
        monkeypatch.delenv(name, raising=False)
    with faulty(s3.url, rate=0) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert read_all(bucket) == [b"a"]
        assert proxy.readers == {OBSTORE}
        proxy.seen.clear()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert read_all(bucket) == [b"a"]
    assert proxy.seen == []


def test_the_blocks_credentials_override_obstores_variables(bucket, proxy, monkeypatch):
    import boto3

    bucket.write("a", b"a")
    session = boto3.Session(KEY, SECRET, region_name="us-east-1")
    monkeypatch.setattr(client, "session_of_block", lambda name: (session, proxy.url))
    monkeypatch.setenv("VISIONFLOWS_S3_BLOCK", "lab")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "DEFAULT_REGION"):
        monkeypatch.setenv(f"AWS_{name}", "another")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false")
    assert read_all(bucket) == [b"a"]
    assert proxy.readers == {OBSTORE}


def test_requester_pays_is_sent(bucket, proxy, monkeypatch):
    bucket.write("a", b"a")
    monkeypatch.setenv("VISIONFLOWS_S3_REQUEST_PAYER", "1")
    assert read_all(bucket) == [b"a"]
    assert proxy.readers == {OBSTORE}
    paid = [one.header("x-amz-request-payer") for one in proxy.seen if one.head.startswith(b"GET")]
    assert paid == [b"requester"] * 2


FORKS = """
import os, sys
from visionflows.storage import open_storage
from visionflows.storage.s3 import bulk_read
here = open_storage(sys.argv[1])
entries = list(here.walk())

def forked():
    sys.stdout.flush()
    child = os.fork()
    if not child:
        print(bulk_read._usable, list(here.read_many(entries)))
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

forked()
print("parent", list(here.read_many(entries)))
forked()
print("parent", list(here.read_many(entries)))
"""


def test_a_fork_can_read_after_its_parent_did(bucket, proxy):
    bucket.write("a", b"a")
    command = [sys.executable, "-c", FORKS, str(bucket)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=100)
    assert done.stdout.splitlines() == [
        *("True [b'a']", "parent [b'a']", "False [b'a']", "parent [b'a']")
    ]
    assert time.monotonic() - began < 90
    assert proxy.readers == {OBSTORE, BOTO3}
