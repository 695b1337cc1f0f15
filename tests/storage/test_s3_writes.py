"""Writing to a bucket: conditional writes, headers, encryption, abandoned uploads."""

import concurrent.futures

import pytest

from visionflows.scoring.run import lock_output
from visionflows.storage.s3.client import call


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
    disposition = heads["predictions.csv"]["ContentDisposition"]
    assert disposition == 'attachment; filename="predictions.csv"'
    assert "ContentDisposition" not in heads["weights.safetensors"]


def test_objects_are_encrypted_with_the_key_of_the_settings(strict, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_S3_KMS_KEY", "a-key")
    monkeypatch.setattr("visionflows.storage.s3.objects.PART", 5 << 20)
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


@pytest.mark.parametrize("server", ["bucket", "strict"])  # moto dates every upload 2010
def test_uploads_of_a_killed_run_are_aborted_and_no_others(request, server):
    here = request.getfixturevalue(server).sub("in")
    above = here.prefix.removesuffix("in/")
    mine = [
        *("predictions.csv", "report.html", "run.json", "failed/failures.csv"),
        *("parts/part-00012.csv", "parts/part-00012.files", "spreadsheet.csv"),
    ]
    others = [
        *("inbox/video.mp4", "inbox/predictions.csv", "photo.jpg", "parts/photo.jpg"),
        *("deep/down/big.csv", "parts/deep/part-00012.csv"),
        *("predictions.csv.1", *(["/predictions.csv"] if server == "strict" else [])),
    ]
    keys = sorted([*(f"{here.prefix}{name}" for name in others), f"{above}other/predictions.csv"])
    for key in [*keys, *(f"{here.prefix}{name}" for name in mine)]:
        call("create_multipart_upload", here.bucket, Key=key)
    here.check_writable()
    with here.lock(".lock"):
        pass
    assert len([key for key in uploads(here) if key.startswith(above)]) == len(mine + keys)
    with lock_output(str(here), 0):
        assert [key for key in uploads(here) if key.startswith(above)] == keys
