"""Promotion history, on a disk and in a bucket: who promoted what, when and why."""

import concurrent.futures
import datetime
import getpass
import json
import shutil
import socket
from types import SimpleNamespace

import pytest

from visionflows.errors import ModelError, StorageError
from visionflows.models import registry
from visionflows.models.promotion_history import Promotion, find_unapplied, read_promotions
from visionflows.storage import open_storage


def versions(store: str, count: int = 2) -> list[str]:
    """Published versions of `pets`, each with only a model.json."""
    names = [f"2026010{number}" for number in range(1, count + 1)]
    for name in names:
        open_storage(store).write(f"models/pets/{name}/model.json", b"{}")
    return names


def test_promotions_and_rollbacks_are_recorded_with_user_and_time(where, tmp_path):
    store = where(tmp_path)
    old, new = versions(store)
    before = datetime.datetime.now(datetime.UTC)
    registry.set_alias(store, "pets", "production", old)
    registry.set_alias(store, "pets", "production", new, flow_run="5c1a", why="3 wrong against 9")
    registry.set_alias(store, "pets", "production", old)
    back, by_run, first = read_promotions("pets", store)
    assert [one.version for one in (first, by_run, back)] == [old, new, old]
    assert [one.before for one in (first, by_run, back)] == ["", old, new]
    assert (back.name, back.alias) == ("pets", "production")
    assert first.who == first.by == f"{getpass.getuser()}@{socket.gethostname()}"
    assert (by_run.by, by_run.who, by_run.why) == ("", "flow run 5c1a", "3 wrong against 9")
    times = [datetime.datetime.fromisoformat(one.when) for one in (first, by_run, back)]
    assert times == sorted(times)
    assert times[0] > before - datetime.timedelta(milliseconds=1)
    assert find_unapplied([back, by_run, first], registry.read_aliases("pets", store)) == []


def test_a_version_with_more_errors_is_promoted_with_a_warning(
    trained, tmp_path, caplog, monkeypatch
):
    store = shutil.copytree(trained.store, tmp_path / "store")
    caplog.set_level("WARNING")
    registry.promote("shapes", store)
    registry.promote("shapes", store)
    assert caplog.text == ""
    info = registry.read_info(registry.find_model("shapes", store))
    metrics = info.metrics.model_copy(update={"error_rate": 0.625})
    worse = SimpleNamespace(info=info.model_copy(update={"metrics": metrics}))
    monkeypatch.setattr(registry, "load_model", lambda location: worse)
    registry.promote("shapes", store, why="retrain: tested on the same images")
    assert caplog.text == ""
    registry.promote("shapes", store)
    valid, rate = info.dataset.valid, 100 * info.metrics.error_rate
    assert (
        f"more errors than {info.version}, the version before it: 62.5 % of {valid} validation "
        f"images against {rate:.1f} % of {valid} validation images, each its own"
    ) in caplog.text


def test_a_record_has_only_the_name_of_the_machine(tmp_path):
    (version,) = versions(str(tmp_path), 1)
    registry.set_alias(tmp_path, "pets", "production", version)
    (path,) = (tmp_path / "models/pets/promotions").iterdir()
    record = json.loads(path.read_text())
    assert record.keys() == {"schema_version", "name", "alias", "version", "before", "when", "by"}


def test_a_user_without_a_name_is_recorded_by_number(monkeypatch, tmp_path):
    def nobody():
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    (version,) = versions(str(tmp_path), 1)
    registry.set_alias(tmp_path, "pets", "production", version)
    assert read_promotions("pets", tmp_path)[0].by.startswith("user ")


def promoted_by_many(store: str) -> None:
    """Nine promotions, four at once; the newest record is the production version."""
    names = versions(store, 9)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = [
            pool.submit(registry.set_alias, store, "pets", "production", name) for name in names
        ]
    assert [one.exception() for one in done] == [None] * len(names)
    found = read_promotions("pets", store)
    assert sorted(one.version for one in found) == sorted(names)
    # Each promotion has seen the previous one: none is lost or out of order.
    assert [one.before for one in found] == [*[one.version for one in found[1:]], ""]
    assert registry.read_aliases("pets", store)["production"] == found[0].version


def test_promoters_at_once_lose_nothing_on_a_disk(tmp_path):
    promoted_by_many(str(tmp_path))


def test_promoters_at_once_lose_nothing_in_a_bucket(strict):
    promoted_by_many(str(strict))


def test_an_incomplete_record_is_skipped(where, tmp_path, caplog):
    store = where(tmp_path)
    old, new = versions(store)
    registry.set_alias(store, "pets", "production", old)
    folder = open_storage(store).sub("models/pets/promotions")
    whole = folder.read(folder.names()[0])
    for number, data in enumerate((b"", whole[: len(whole) // 2], b"[]", b"\xff")):
        folder.write(f"2027010{number}T000000Z-0.json", data)
    (tmp_path / "models/pets/promotions/.writing-0000").write_bytes(whole)
    assert [one.version for one in read_promotions("pets", store)] == [old]
    assert caplog.text.count("not a promotion record") == 4
    assert "models/pets/promotions" in caplog.text
    registry.set_alias(store, "pets", "production", new)
    assert read_promotions("pets", store)[0].before == old


def test_a_promotion_that_fails_leaves_no_record(tmp_path):
    (version,) = versions(str(tmp_path), 1)
    (tmp_path / "models/pets/aliases").write_bytes(b"a file where a folder should be")
    with pytest.raises(StorageError):
        registry.set_alias(tmp_path, "pets", "production", version)
    assert read_promotions("pets", tmp_path) == []
    with pytest.raises(ModelError, match="no such version to promote"):
        registry.set_alias(tmp_path, "pets", "production", "20990101")
    assert read_promotions("pets", tmp_path) == []


def test_a_promotion_that_was_killed_is_reported(where, tmp_path):
    """Its record exists, and the alias is unchanged."""
    store = where(tmp_path)
    old, new = versions(store)
    registry.set_alias(store, "pets", "production", old)
    killed = Promotion(schema_version=1, name="pets", alias="production", version=new)
    open_storage(store).write("models/pets/promotions/20990101T000000000000Z-0.json", killed.text())
    (line,) = find_unapplied(read_promotions("pets", store), registry.read_aliases("pets", store))
    assert line.startswith(f"pets@production is {old}")
    assert new in line


@pytest.mark.parametrize("name", ["pets", "..", "a/b", "é"])
def test_a_model_without_promotions_has_none(where, name, tmp_path):
    assert read_promotions(name, where(tmp_path)) == []
    assert registry.read_aliases("pets", where(tmp_path)) == {}
