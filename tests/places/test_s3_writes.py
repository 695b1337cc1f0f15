"""What is written into a bucket: conditions, headers, encryption, and uploads left behind."""

import concurrent.futures

import pytest

from visionflows.places.s3.client import call


def test_no_update_is_lost(strict):
    def add(number):
        strict.update("count", lambda data: (data or b"") + b"%d." % number)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert sorted(strict.read("count").split(b"."))[1:] == sorted(b"%d" % n for n in range(12))


def test_a_report_opens_and_a_table_is_saved(strict):
    for name in ("report.html", "predictions.csv", "run.json", "weights.safetensors"):
        strict.write(name, b"x")
    heads = {name: call("head_object", strict.bucket, Key=f"in/{name}") for name in strict.names()}
    assert heads["report.html"]["ContentType"] == "text/html; charset=utf-8"
    assert heads["report.html"]["ContentDisposition"] == "inline"
    assert heads["run.json"]["ContentType"] == "application/json; charset=utf-8"
    told = heads["predictions.csv"]["ContentDisposition"]
    assert told == 'attachment; filename="predictions.csv"'
    assert "ContentDisposition" not in heads["weights.safetensors"]


def test_what_is_written_is_encrypted_with_the_key_of_the_settings(strict, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_S3_KMS_KEY", "a-key")
    monkeypatch.setattr("visionflows.places.s3.objects.PART", 5 << 20)
    contents = {"small": b"x", "large": bytes(12 << 20)}
    for name, data in contents.items():
        strict.write(name, data)
    strict.rename("small", "renamed")
    contents["renamed"] = contents.pop("small")
    for name, data in contents.items():
        head = call("head_object", strict.bucket, Key=f"in/{name}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "a-key")
        assert strict.read(name) == data


def uploads(here) -> list[str]:
    found = call("list_multipart_uploads", here.bucket, Prefix="")
    return sorted(upload["Key"] for upload in found.get("Uploads", []))


@pytest.mark.parametrize("server, old", [("bucket", False), ("strict", True)])
def test_uploads_that_nobody_completes_are_aborted(request, server, old):
    here = request.getfixturevalue(server).sub("in")  # moto says of every upload: from 2010
    keys = [f"{here.prefix}{name}" for name in ("deep/down/big.csv", "predictions.csv")]
    keys.append(f"{here.prefix.removesuffix('in/')}other/big.csv")
    for key in keys:
        call("create_multipart_upload", here.bucket, Key=key)
    mine = keys.pop(1)
    here.check_writable()
    assert (mine in uploads(here)) is not old
    with here.lock(".lock"):
        assert uploads(here) == sorted(keys)
    for key in keys:
        assert key in uploads(here)
