"""A server that restarts is waited for; one that never answered is reported at once."""

import pytest

from visionflows.errors import StorageError
from visionflows.storage.s3 import client, objects
from visionflows.storage.s3.error_messages import translate_error


class Server:
    """Answers requests, or is away for some."""

    away = 0

    def head_object(self, **_: object) -> dict:
        from botocore.exceptions import EndpointConnectionError

        if self.away:
            self.away -= 1
            raise EndpointConnectionError(endpoint_url="http://minio:9000")
        return {"ContentLength": 1}

    def put_object(self, **parameters: object) -> dict:
        from botocore.exceptions import ClientError

        if "IfMatch" in parameters or "IfNoneMatch" in parameters:
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
        return {"ETag": '"1"'}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9000")
    made, real = Server(), client.connection()
    made.meta = real[1].meta
    monkeypatch.setattr(client, "connection", lambda: (None, made))
    monkeypatch.setattr(client, "_answered", set())
    return made


def test_a_server_that_restarts_is_waited_for(server, caplog):
    server.away = 5
    with pytest.raises(StorageError, match="http://minio:9000 does not answer"):
        client.call("head_object", "lab", Key="a")
    assert server.away == 4  # it may be the wrong address: nobody waits for that
    server.away = 0
    client.call("head_object", "lab", Key="a")
    server.away = 3
    assert client.call("head_object", "lab", Key="a") == {"ContentLength": 1}
    (line,) = caplog.messages
    assert line.endswith("; trying for 120 s")


def test_a_server_that_stays_away_ends_the_wait(server, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_S3_PATIENCE", "1")
    client.call("head_object", "lab", Key="a")
    server.away = 1000
    with pytest.raises(StorageError, match="does not answer"):
        client.call("head_object", "lab", Key="a")


def test_a_server_without_conditions_gets_the_object_without_them(server):
    assert objects.put("lab", "alias", b"v2", IfMatch='"0"') == "1"
    assert objects.put("lab", "alias", b"v2", IfNoneMatch="*") == "1"


def test_a_refused_checksum_names_the_setting():
    from botocore.exceptions import ClientError

    error = {"Code": "InvalidArgument", "Message": "x-amz-checksum-crc32 is unknown"}
    line = str(translate_error(ClientError({"Error": error}, "PutObject"), "put_object", "b", "k"))
    assert line.endswith("set AWS_REQUEST_CHECKSUM_CALCULATION=when_required")
