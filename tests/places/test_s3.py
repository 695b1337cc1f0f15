"""What only a bucket can do: errors by name, faults, conditions, odd keys, and secrets kept."""

import concurrent.futures
import json
import logging
import os
import time

import pytest
from conftest import write_shapes
from fault_proxy import faulty
from s3_server import SECRET, environment, moto

from visionflows.data.fetch import fetch
from visionflows.errors import LockedError, PlaceError, SettingsError
from visionflows.images.formats import is_image_name
from visionflows.model import bundle, registry
from visionflows.places import place
from visionflows.places.base import Entry, ReadFailed
from visionflows.places.s3 import lock
from visionflows.places.s3.client import call
from visionflows.places.s3.listing import in_order
from visionflows.places.s3.place import S3Place, probe
from visionflows.scoring.run import ScoreSettings, score_folder


@pytest.fixture
def bucket(s3, tmp_path):
    return place(s3.place(tmp_path))


@pytest.fixture(scope="module")
def moto_url(tmp_path_factory):
    with moto(tmp_path_factory.mktemp("moto") / "log") as url:
        yield url


@pytest.fixture
def strict(moto_url, monkeypatch, tmp_path):
    """A new bucket on a server that keeps conditions and takes every key."""
    for name, value in environment(moto_url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "cache"))
    name = f"b-{time.time_ns()}"
    call("create_bucket", name)
    return place(f"s3://{name}/in")


# Names


def test_places_by_name():
    assert str(place("s3://lab/store/")) == str(place("s3://lab/store")) == "s3://lab/store"
    assert str(place("s3://lab")) == "s3://lab"
    assert str(place("s3://lab").sub("a").sub("b")) == "s3://lab/a/b"
    for text in ("s3://lab//a", "s3://lab/a//", "s3://lab/../a"):
        here = place(text)
        assert place(str(here)).prefix == here.prefix


@pytest.mark.parametrize("text", ["s3://", "s3:///a", "s3://AKIAKEY:secret@lab/a", "s3://a b/c"])
def test_what_names_no_bucket_is_refused_and_not_repeated(text):
    with pytest.raises(SettingsError, match="no bucket's name follows") as caught:
        place(text)
    assert "secret" not in str(caught.value)


def test_every_key_is_a_name_and_never_a_path(strict, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = next(trained.dataset.rglob("*.png")).read_bytes()
    names = ["../up.png", "a/../b.png", "//two.png", "/lead.png", "x//y.png", "./here.png"]
    names += ["a b+c%20d.png", "é/犬.png", "C:\\x.png"]
    for name in names:
        strict.write(name, picture)
    strict.write("folder/", b"")
    strict.write("folder.png/", b"")
    found = [entry.name for entry in strict.walk(is_image_name)]
    assert found == sorted(names)
    assert all(strict.read(name) == picture for name in names)
    before = sorted(tmp_path.rglob("*"))
    run = score_folder(str(strict), f"{strict}-out", "shapes", trained.store)
    assert run["books"]["by_status"] == {"ok": len(names)}
    assert sorted(tmp_path.rglob("*")) == before


# Listings


def test_entries_are_in_order_though_many_and_out_of_order(monkeypatch):
    monkeypatch.setattr("visionflows.places.s3.listing.RUN", 100)
    names = [f"{(number * 7919) % 1009:05d}" for number in range(1009)]
    found = [entry.name for entry in in_order(Entry(name, 1, "é\n") for name in names)]
    assert found == sorted(names)


def test_a_listing_of_pages_is_whole(strict):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: strict.write(f"{n:05d}.png", b"x"), range(1203)))
    assert [entry.name for entry in strict.walk()] == [f"{n:05d}.png" for n in range(1203)]
    strict.remove("")
    assert not strict.exists()


# Changed and gone


@pytest.mark.parametrize("server", ["bucket", "strict"])
def test_what_changed_or_went_after_the_listing_is_told(request, server):
    here = request.getfixturevalue(server).sub("in")
    for name in ("changed", "gone", "same"):
        here.write(name, b"before")
    entries = list(here.walk())
    here.write("changed", b"after!")
    here.remove("gone")
    time.sleep(0.1)
    changed, gone, same = here.read_many(entries)
    assert isinstance(changed, ReadFailed)
    assert "changed after it was listed" in changed.strerror
    assert isinstance(gone, FileNotFoundError)
    assert same == b"before"


# Conditions and locks


def test_no_update_is_lost(strict):
    def add(number):
        strict.update("count", lambda data: (data or b"") + b"%d." % number)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert sorted(strict.read("count").split(b"."))[1:] == sorted(b"%d" % n for n in range(12))


def test_a_lock_of_another_machine_blocks_until_it_is_no_longer_renewed(bucket, monkeypatch):
    other = {"machine": "another", "host": "there", "pid": 1, "born": "1"}
    bucket.write(".lock/0123", json.dumps(other).encode())
    with pytest.raises(LockedError, match="process 1 on there"), bucket.lock(".lock"):
        pass
    monkeypatch.setattr(lock, "DEAD", 1)
    with bucket.lock(".lock", wait=20):
        pass


def test_a_lock_is_renewed(bucket, monkeypatch):
    monkeypatch.setattr(lock, "RENEWED", 0.2)
    monkeypatch.setattr(lock, "_is_dead", lambda owner: False)
    monkeypatch.setattr(lock, "DEAD", 2)
    with bucket.lock(".lock"):
        time.sleep(3)
        with pytest.raises(LockedError), bucket.lock(".lock"):
            pass


# What is written


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


# The whole job


def test_a_loaded_model_is_kept_here_by_digest_and_brought_anew_if_damaged(trained, s3, tmp_path):
    model = bundle.load(registry.find("shapes", s3.place(trained.store)))
    weights = tmp_path / "cache/models" / model.digest / "weights.safetensors"
    before = weights.stat().st_ino
    bundle.load(model.place)
    assert weights.stat().st_ino == before
    weights.write_bytes(b"cut")
    with pytest.raises(bundle.ModelError, match="cut or changed"):
        bundle.load(model.place)
    assert bundle.load(model.place).digest == model.digest


def test_an_archive_that_is_in_no_bucket_is_told(s3, tmp_path):
    with pytest.raises(PlaceError, match=r"nowhere\.tgz: no such archive"):
        fetch(s3.place(tmp_path / "nowhere.tgz"), tmp_path / "store")


# Errors


def line_of(call) -> str:
    with pytest.raises(PlaceError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    assert SECRET not in line
    return line


def test_credentials_that_are_missing_or_wrong_are_told(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    assert "the secret key is wrong" in line_of(lambda: list(bucket.walk()))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another-key")
    assert "does not know this access key" in line_of(lambda: list(bucket.walk()))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials" in line_of(lambda: list(bucket.walk()))


def test_a_bucket_that_is_not_there_and_a_server_that_is_down_are_told(s3, monkeypatch):
    assert "no such bucket" in line_of(lambda: list(place("s3://nowhere-at-all").walk()))
    assert "no such bucket" in line_of(place("s3://nowhere-at-all").check_writable)
    monkeypatch.setenv("VISIONFLOWS_S3_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert "127.0.0.1:9 does not answer" in line_of(lambda: list(place("s3://lab").walk()))


@pytest.mark.parametrize(
    "answer, told",
    [
        ((403, "AccessDenied"), "may not list there"),
        ((403, "RequestTimeTooSkewed"), "clock is wrong"),
        ((400, "AuthorizationHeaderMalformed"), "set AWS_REGION"),
        ((400, "ExpiredToken"), "have expired"),
        ((500, "InternalError"), "failed 1 times in a row"),
        ((418, "Teapot"), "cannot list there: Teapot"),
    ],
)
def test_what_a_server_refuses_is_told_by_name(bucket, s3, monkeypatch, answer, told):
    monkeypatch.setenv("VISIONFLOWS_S3_ATTEMPTS", "1")
    with faulty(s3.url, rate=0, answer=answer) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        assert told in line_of(lambda: list(bucket.walk()))


def test_rights_are_told_apart(bucket, s3, monkeypatch):
    with faulty(s3.url, rate=0, answer=(403, "AccessDenied")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        assert "may not write there" in line_of(bucket.check_writable)
        assert "may not read there" in line_of(lambda: bucket.check_readable(["a", "b"]))
        found = probe(str(bucket))
    assert [(what, ok) for what, ok, _ in found] == [
        *(("list", False), ("write", False), ("read", False), ("delete", False))
    ]
    assert all("allow s3:" in advice for _, _, advice in found)


def test_a_probe_tries_all_and_leaves_nothing(bucket):
    assert probe(str(bucket)) == [(what, True, "") for what in ("list", "write", "read", "delete")]
    assert list(bucket.walk()) == []
    [(what, ok, advice)] = probe("s3://nowhere-at-all/x")
    assert (what, ok) == ("list", False)
    assert "no such bucket" in advice


# Faults


@pytest.mark.parametrize("mode", ["standard", "adaptive"])
def test_a_run_under_faults_has_the_same_bytes(trained, s3, tmp_path, monkeypatch, mode):
    folder = write_shapes(tmp_path / "in", each=60, first_seed=7000)
    settings = ScoreSettings(shard_size=20, batch_size=8)
    score_folder(str(folder), str(tmp_path / "clean"), "shapes", trained.store, settings)
    monkeypatch.setenv("VISIONFLOWS_S3_TIMEOUT", "3")
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    with faulty(s3.url, rate=0.1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        where = s3.place
        run = score_folder(
            where(folder), where(tmp_path / "out"), "shapes", where(trained.store), settings
        )
    assert run["books"]["ok"] == 180
    clean = (tmp_path / "clean/predictions.csv").read_bytes()
    assert (tmp_path / "out/predictions.csv").read_bytes() == clean
    made = {fault: count for fault, count in proxy.done.items() if fault != "requests"}
    assert sum(made.values()) > 15, made
    assert len(made) >= 5, made


def test_a_large_file_comes_and_goes_whole_under_faults(bucket, s3, monkeypatch):
    data = os.urandom(20_000_000)
    monkeypatch.setenv("VISIONFLOWS_S3_TIMEOUT", "1")
    monkeypatch.setattr("visionflows.places.s3.objects.PART", 1 << 20)
    monkeypatch.setattr("visionflows.places.s3.objects.CHUNK", 1 << 20)
    # No bytes are flipped: rclone, alone among servers, takes no part a second time.
    faults = ("500", "503", "reset", "cut", "stall")
    with faulty(s3.url, rate=0.1, faults=faults) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        with bucket.open_write("large") as file:
            file.write(data)
        with bucket.open_read("large") as file:
            assert file.read() == data
    assert sum(proxy.done[fault] for fault in faults) >= 2


# Secrets


def test_no_secret_is_logged_or_written(trained, s3, tmp_path, caplog):
    folder = write_shapes(tmp_path / "in", each=2)
    with caplog.at_level(logging.DEBUG):
        where = s3.place
        score_folder(where(folder), where(tmp_path / "out"), "shapes", where(trained.store))
    assert "visionflows" in caplog.text
    assert SECRET not in caplog.text
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in file.read_bytes(), file
    assert SECRET not in repr(vars(S3Place.named(where(folder))))
