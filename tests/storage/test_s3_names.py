"""Names and listings of a bucket: unusual keys, changed objects."""

import time

import pytest

from visionflows.errors import SettingsError
from visionflows.images.formats import is_image_name
from visionflows.scoring.local_run import score_folder
from visionflows.storage import open_storage
from visionflows.storage.base import ReadFailed


def test_s3_uris():
    assert (
        str(open_storage("s3://lab/store/"))
        == str(open_storage("s3://lab/store"))
        == "s3://lab/store"
    )
    assert str(open_storage("s3://lab")) == "s3://lab"
    assert str(open_storage("s3://lab").sub("a").sub("b")) == "s3://lab/a/b"
    for text in ("s3://lab//a", "s3://lab/a//", "s3://lab/../a"):
        here = open_storage(text)
        assert open_storage(str(here)).prefix == here.prefix


@pytest.mark.parametrize("text", ["s3://", "s3:///a", "s3://AKIAKEY:secret@lab/a", "s3://a b/c"])
def test_a_uri_without_a_bucket_is_refused_and_not_printed(text):
    with pytest.raises(SettingsError, match="no bucket's name follows") as caught:
        open_storage(text)
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
    run = score_folder(str(strict), "shapes", f"{strict}-out", trained.store)
    assert run["counts"]["by_status"] == {"ok": len(names)}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("server", ["bucket", "strict"])
def test_objects_changed_or_deleted_after_the_listing_are_reported(request, server):
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
