"""Errors of a bucket are one line; an error of one object is its row."""

import pytest
from conftest import write_shapes
from fault_proxy import faulty
from s3_server import SECRET

from visionflows.errors import StorageError
from visionflows.scoring.local_run import score_folder
from visionflows.storage import check_access, open_storage
from visionflows.storage.base import ReadFailed


def line_of(call) -> str:
    with pytest.raises(StorageError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    assert SECRET not in line
    return line


def test_missing_or_wrong_credentials_are_reported(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    assert "the secret key is wrong" in line_of(lambda: list(bucket.walk()))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another-key")
    assert "does not know this access key" in line_of(lambda: list(bucket.walk()))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials" in line_of(lambda: list(bucket.walk()))


def test_a_missing_bucket_and_a_server_that_is_down_are_reported(s3, monkeypatch):
    assert "no such bucket" in line_of(lambda: list(open_storage("s3://nowhere-at-all").walk()))
    assert "no such bucket" in line_of(open_storage("s3://nowhere-at-all").check_writable)
    monkeypatch.setenv("VISIONFLOWS_S3_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert "127.0.0.1:9 does not answer" in line_of(lambda: list(open_storage("s3://lab").walk()))


@pytest.mark.parametrize(
    "answer, message",
    [
        ((403, "AccessDenied"), "may not list there"),
        ((403, "RequestTimeTooSkewed"), "clock is wrong"),
        ((400, "AuthorizationHeaderMalformed"), "set AWS_REGION"),
        ((400, "ExpiredToken"), "have expired"),
        ((500, "InternalError"), "failed 1 times in a row"),
        ((418, "Teapot"), "cannot list there: Teapot"),
    ],
)
def test_refusals_of_a_server_are_reported(bucket, s3, monkeypatch, answer, message):
    monkeypatch.setenv("VISIONFLOWS_S3_ATTEMPTS", "1")
    with faulty(s3.url, rate=0, answer=answer) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        assert message in line_of(lambda: list(bucket.walk()))


def test_each_missing_permission_is_reported(bucket, s3, monkeypatch):
    with faulty(s3.url, rate=0, answer=(403, "AccessDenied")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        assert "may not write there" in line_of(bucket.check_writable)
        assert "may not read there" in line_of(lambda: bucket.check_readable(["a", "b"]))
        found = [*check_access(str(bucket))]
    assert [(what, ok) for what, ok, _ in found] == [
        *(("list", False), ("write", False), ("read", False), ("delete", False))
    ]
    assert all("allow s3:" in advice for _, _, advice in found)


def test_the_access_check_tries_everything_and_leaves_nothing(bucket):
    assert [*check_access(str(bucket))] == [
        (what, True, "") for what in ("list", "write", "read", "delete")
    ]
    assert list(bucket.walk()) == []
    [(what, ok, advice)] = check_access("s3://nowhere-at-all/x")
    assert (what, ok) == ("list", False)
    assert "no such bucket" in advice


# One object


REFUSALS = [
    *((403, "InvalidObjectState"), (400, "KMS.DisabledException"), (400, "InvalidRequest")),
    *((403, "AccessDenied"), (418, "Teapot"), (500, "InternalError")),
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refused_object_is_a_row(bucket, s3, monkeypatch, answer):
    monkeypatch.setenv("VISIONFLOWS_S3_ATTEMPTS", "2")
    for name in ("1.jpg", "two.jpg", "three.jpg"):
        bucket.write(name, name.encode())
    with faulty(s3.url, rate=0, answer=answer, only=b"two") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        entries = list(bucket.walk())
        found = dict(zip([entry.name for entry in entries], bucket.read_many(entries), strict=True))
        assert (found["1.jpg"], found["three.jpg"]) == (b"1.jpg", b"three.jpg")
        assert isinstance(found["two.jpg"], ReadFailed)
        assert answer[1] in found["two.jpg"].strerror
        assert "\n" not in found["two.jpg"].strerror
        with pytest.raises(ReadFailed, match=answer[1]):
            bucket.read("two.jpg")
        bucket.check_readable(["two.jpg", "1.jpg"])


@pytest.mark.parametrize(
    "code, message",
    [
        *(("RequestTimeTooSkewed", "clock is wrong"), ("ExpiredToken", "have expired")),
        *(("NoSuchBucket", "no such bucket"), ("PermanentRedirect", "set AWS_REGION")),
        ("SignatureDoesNotMatch", "secret key is wrong"),
    ],
)
def test_an_error_of_the_bucket_ends_the_run_and_names_the_key(
    bucket, s3, monkeypatch, code, message
):
    monkeypatch.setenv("VISIONFLOWS_S3_ATTEMPTS", "2")
    bucket.write("two.jpg", b"two")
    entries = list(bucket.walk())
    with faulty(s3.url, rate=0, answer=(400, code), only=b"two.jpg") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        line = line_of(lambda: list(bucket.read_many(entries)))
    assert line.startswith(f"s3://{bucket.bucket}")
    assert f"{bucket.prefix}two.jpg" in line
    assert message in line


def test_a_run_continues_after_an_archived_object(trained, s3, tmp_path, monkeypatch):
    folder = write_shapes(tmp_path / "in", each=2)
    place_of = s3.uri
    with faulty(s3.url, rate=0, answer=(403, "InvalidObjectState"), only=b"square/0001") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        run = score_folder(
            place_of(folder), "shapes", place_of(tmp_path / "out"), place_of(trained.store)
        )
    assert run["counts"]["by_status"] == {"ok": 5, "fetch_failed": 1}
    rows = (tmp_path / "out/predictions.csv").read_text().splitlines()
    (row,) = [row for row in rows if row.startswith("square/0001")]
    assert "fetch_failed" in row
    assert "InvalidObjectState" in row


# Credentials


def profiled(monkeypatch, folder, *lines: str) -> None:
    (folder / "config").write_text("\n".join(["[profile lab]", "region = us-east-1", *lines]))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "process, message",
    [
        ("sh -c 'echo the vault is sealed >&2; exit 1'", "the vault is sealed"),
        ("/nowhere/at-all", "No such file or directory: '/nowhere/at-all'"),
        ("echo no JSON", "Expecting value"),
    ],
)
def test_a_credential_process_that_fails_is_reported_with_its_cause(
    bucket, monkeypatch, tmp_path, process, message
):
    profiled(monkeypatch, tmp_path, f"credential_process = {process}")
    for call in (lambda: list(bucket.walk()), lambda: bucket.read("a")):
        line = line_of(call)
        assert "no credentials that boto3 can use" in line
        assert message in line


def test_a_missing_sso_login_is_reported(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # where botocore reads the logins
    profiled(
        *(monkeypatch, tmp_path, "sso_session = corp", "sso_account_id = 111122223333"),
        *("sso_role_name = reader", "[sso-session corp]", "sso_region = us-east-1"),
        "sso_start_url = https://corp.example/start",
    )
    assert "run `aws sso login`" in line_of(lambda: list(bucket.walk()))


def test_a_missing_profile_is_reported(bucket, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    assert "nowhere" in line_of(lambda: list(bucket.walk()))
