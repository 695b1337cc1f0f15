"""The lean read: its signature is botocore's, and an answer that is not whole is never taken."""

import contextlib
import datetime
import socket
import threading

import pytest

from visionflows.places.s3.wire import Keys, Line, signed


@pytest.mark.parametrize("token", [None, "a-token"])
@pytest.mark.parametrize("path", ["/inbox/1.jpg", "/inbox/a%20b%2Bc/%C3%A9//../~x.jpg"])
def test_the_signature_is_botocores(path, token):
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    headers = {"x-amz-checksum-mode": "ENABLED", "if-match": '"abc"'}
    expected = AWSRequest("GET", f"http://127.0.0.1:9000{path}", headers=dict(headers))
    keys = Keys("a-key", "a-secret", token, "eu-central-1")
    S3SigV4Auth(Credentials(*keys[:3]), "s3", keys.region).add_auth(expected)
    stamp = datetime.datetime.strptime(f"{expected.headers['X-Amz-Date']}+0000", "%Y%m%dT%H%M%SZ%z")
    request = signed(keys, "127.0.0.1:9000", path, headers, stamp.timestamp()).decode()
    assert request.startswith(f"GET {path} HTTP/1.1\r\nhost:127.0.0.1:9000\r\n")
    assert f"\r\nauthorization:{expected.headers['Authorization']}\r\n" in request


@contextlib.contextmanager
def answering(*answers: bytes):
    """A server that gives each connection's requests these answers, and then hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connections.append(connection)
                    with connection:
                        for answer in answers:
                            connection.recv(1 << 16)
                            connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Line(f"http://127.0.0.1:{server.getsockname()[1]}", (5, 5), ""), connections


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: x\r\n\r\nabc"


def test_a_connection_is_kept_until_the_server_hangs_up():
    with answering(WHOLE, WHOLE) as (line, connections):
        for _ in range(5):
            assert line.get(b"GET") == (200, {"content-length": "3", "etag": "x"}, b"abc")
        assert len(connections) == 3


def test_of_what_is_not_there_only_that_is_told():
    gone = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    with answering(gone) as (line, connections):
        for _ in range(2):
            assert line.get(b"GET")[::2] == (404, b"")
        assert len(connections) == 2


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"SMTP", WHOLE[:-1]),
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20 + b"x: " + b"y" * 70_000,
    ],
)
def test_what_is_not_a_whole_answer_is_an_error(answer):
    with answering(answer) as (line, _), pytest.raises((OSError, ValueError)):
        line.get(b"GET")
    assert not line.idle
