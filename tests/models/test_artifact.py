"""Model artifacts on a disk and in a bucket: published, found, and refused if damaged."""

import concurrent.futures
import csv
import dataclasses
import io
import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
from conftest import CLASSES, write_shapes

from visionflows.errors import ModelError, SettingsError
from visionflows.hashing import sha256_of
from visionflows.models import artifact, registry
from visionflows.models.schema import ModelInfo
from visionflows.scoring.local_run import score_folder
from visionflows.storage import open_storage


@dataclasses.dataclass(frozen=True)
class Published:
    """The model of the shapes, published again; `folder` is its local folder."""

    store: str
    version: str
    storage: str
    folder: Path


def info_of(trained) -> ModelInfo:
    return ModelInfo.read((Path(trained.storage) / "model.json").read_bytes())


@pytest.fixture
def published(trained, where, tmp_path) -> Published:
    store, version = where(tmp_path / "store"), registry.new_version()
    info = info_of(trained).model_copy(update={"version": version})
    found = registry.publish(Path(trained.storage), store, info, trained.table)
    return Published(store, version, found, tmp_path / "store/models/shapes" / version)


def test_an_artifact_holds_its_files(published):
    where = published.folder
    assert published.storage == f"{published.store}/models/shapes/{published.version}"
    info = json.loads((where / "model.json").read_text())
    assert info["classes"] == list(CLASSES)
    assert {"schema_version", "architecture", "image_size", "resize", "normalise"} <= set(info)
    for name in ("weights.safetensors", "files.csv", "selfcheck/expected.csv", "selfcheck/0.png"):
        assert (where / name).is_file()
        assert name in info["files"]
    pictures = {path.stem for path in (where / "pictures").glob("*.png")}
    assert pictures == {"batch", "results", "top_losses"}
    header = (where / "files.csv").read_text().splitlines()[0]
    assert header == "path,label,group,is_valid,sha256,signature,status"


def test_the_confusion_matrix_is_a_file_of_its_own(trained, published):
    """With a thousand classes, model.json would have seven megabytes of zeros."""
    info = json.loads((Path(trained.storage) / "model.json").read_text())
    assert "confusion" not in info["metrics"]
    assert info["metrics"]["by_class"]
    data = (Path(trained.storage) / "confusion.csv").read_bytes()
    assert info["files"]["confusion.csv"] == sha256_of(data)
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert all(int(row["images"]) > 0 for row in rows)
    matrix = trained.metrics["confusion"]
    assert [(CLASSES[actual], CLASSES[to], images) for actual, to, images in matrix] == [
        (row["actual"], row["predicted"], int(row["images"])) for row in rows
    ]
    assert (published.folder / "confusion.csv").read_bytes() == data  # of the published checkpoint


def test_names_aliases_versions_and_locations_find_the_same_artifact(published):
    store, version = published.store, published.version
    for model in ("shapes", "shapes@latest", f"shapes@{version}", published.storage):
        assert str(registry.find_model(model, store)) == published.storage
    registry.set_alias(store, "shapes", "production", version)
    assert str(registry.find_model("shapes@production", store)) == published.storage
    assert (published.folder.parent / "aliases/production").read_text() == f"{version}\n"
    [row] = registry.list_models(store)
    assert row.aliases == ["latest", "production"]
    with pytest.raises(ModelError, match="no such version"):
        registry.set_alias(store, "shapes", "production", "20200101T000000000Z-00000000")
    assert (
        str(artifact.load_model(registry.find_model("shapes@production", store)).storage)
        == published.storage
    )


def test_two_publishers_at_once_do_not_mix(trained, where, tmp_path):
    store, checkpoint = where(tmp_path / "store"), Path(trained.storage)
    versions = [registry.new_version() for _ in range(2)]
    infos = [info_of(trained).model_copy(update={"version": version}) for version in versions]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        locations = list(
            pool.map(lambda i: registry.publish(checkpoint, store, i, trained.table), infos)
        )
    assert [
        artifact.load_model(open_storage(found)).info.version for found in locations
    ] == versions
    assert str(registry.find_model("shapes", store)) in locations


def test_an_unknown_name_is_refused_with_the_known_ones(trained, where, tmp_path):
    store = where(trained.store)
    with pytest.raises(ModelError, match=r"dogs: no such model in .*; there is shapes"):
        registry.find_model("dogs", store)
    with pytest.raises(ModelError, match="no such version or alias; shapes has the aliases latest"):
        registry.find_model("shapes@production", store)
    with pytest.raises(ModelError, match="none yet"):
        registry.find_model("shapes", where(tmp_path))
    with pytest.raises(ModelError, match="not a model artifact"):
        artifact.load_model(open_storage(where(tmp_path)))


def test_latest_never_goes_back(where, tmp_path):
    store = where(tmp_path)
    registry._move_latest(store, "pets", "20260102")
    registry._move_latest(store, "pets", "20260101")
    assert open_storage(store).read("models/pets/aliases/latest") == b"20260102\n"


def test_an_incomplete_artifact_is_not_found(published):
    """As left by a publisher that was killed before the last file."""
    newer = published.folder.with_name("99990101T000000000Z-00000000")
    shutil.copytree(published.folder, newer)
    (newer / "model.json").unlink()
    assert str(registry.find_model("shapes", published.store)) == published.storage
    assert [row.info.version for row in registry.list_models(published.store)] == [
        published.version
    ]
    with pytest.raises(ModelError, match="no such version"):
        registry.find_model(f"shapes@{newer.name}", published.store)


def test_versions_sort_by_time_and_do_not_collide():
    versions = [registry.new_version() for _ in range(200)]
    assert len(set(versions)) == 200
    stamps = [version.partition("-")[0] for version in versions]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("name", ["", "a b", "../up", "-x", "a/b", "ä"])
def test_names_that_cannot_be_a_folder_are_refused(name):
    with pytest.raises(SettingsError, match="cannot name a model"):
        registry.check_name(name)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda where: (where / "model.json").write_text("{"), "not JSON"),
        (lambda where: (where / "model.json").write_text("{}"), "lacks schema_version"),
        (lambda where: changed(where, classes=["a", "a"]), r"classes: .*'a' is there 2 times"),
        (lambda where: changed(where, image_size="32"), "image_size: .*integer"),
        (lambda where: changed(where, normalise={"mean": [0, 0, 0], "std": [0, 1, 1]}), "std.0"),
        (lambda where: changed(where, files={}), "lacks weights.safetensors"),
        (lambda where: changed(where, files={"selfcheck/../../x": "0" * 64}), "files.*x"),
        (lambda where: changed(where, files={"/etc/passwd": "0" * 64}), "is absolute"),
        (lambda where: changed(where, name="../up"), "name: "),
        (lambda where: changed(where, version="a\nb"), "version: "),
        (lambda where: republished(where, "x"), "needs a row for each image"),
        (lambda where: republished(where, "image,a,b,c\n0.png,x,0,0\n"), "could not convert"),
        (lambda where: republished(where, "i,a,b,c\n../0.png,0,0,1\n"), "model.json lacks"),
        (lambda where: (where / "model.json").write_text("[" * 100_000), "not JSON"),
        (lambda where: (where / "model.json").write_bytes(b"\xff"), "not JSON"),
        (lambda where: (where / "model.json").write_bytes(b""), "not JSON"),
        (lambda where: (where / "selfcheck/0.png").unlink(), "missing; publish"),
        (
            lambda where: (where / "selfcheck/0.png").write_bytes(b"x"),
            "changed since it was published",
        ),
    ],
)
def test_a_damaged_artifact_is_refused_in_one_line(trained, where, tmp_path, change, says):
    copy = tmp_path / "bundle"
    shutil.copytree(trained.storage, copy)
    change(copy)
    with pytest.raises(ModelError, match=says) as caught:
        artifact.read_selfcheck(artifact.load_model(open_storage(where(copy))))
    assert str(caught.value).isprintable()


def changed(where: Path, **keys) -> None:
    """Write a model.json with other values."""
    info = json.loads((where / "model.json").read_text())
    (where / "model.json").write_text(json.dumps(info | keys))


def republished(where: Path, expected: str) -> None:
    """Replace expected.csv, with its new digest in model.json."""
    (where / "selfcheck/expected.csv").write_text(expected)
    files = json.loads((where / "model.json").read_text())["files"]
    changed(where, files=files | {"selfcheck/expected.csv": sha256_of(expected.encode())})


def test_an_artifact_in_a_bucket_writes_nothing_outside_its_copy(trained, s3, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(trained.storage, copy)
    files = json.loads((copy / "model.json").read_text())["files"]
    changed(copy, files=files | {"selfcheck/../../../../written": sha256_of(b"outside")})
    with pytest.raises(ModelError, match="written"):
        artifact.load_model(open_storage(s3.uri(copy)))
    assert list(tmp_path.rglob("written")) == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("model", ["pets@..", "shapes@../shapes", "@", "shapes@a\nb", "é", "..@x"])
def test_an_invalid_reference_is_refused_in_one_line(trained, model):
    with pytest.raises(ModelError) as caught:
        artifact.load_model(registry.find_model(model, trained.store))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("alias", [b"", b"\xff", b"../../x\n", b"a b", b"{}"])
def test_an_alias_without_a_version_is_refused_and_can_be_set_again(where, alias, tmp_path):
    store = where(tmp_path)
    open_storage(store).write("models/pets/aliases/latest", alias)
    with pytest.raises(ModelError, match="aliases/latest: holds no version"):
        registry.find_model("pets", store)
    assert registry.list_models(store) == []
    registry._move_latest(store, "pets", "20260102")
    assert open_storage(store).read("models/pets/aliases/latest") == b"20260102\n"


def test_a_model_that_cannot_be_read_does_not_hide_the_others(published, caplog):
    open_storage(published.store).write("models/shapes/0/model.json", b"torn{")
    assert [row.info.version for row in registry.list_models(published.store)] == [
        published.version
    ]
    assert "not JSON" in caplog.text


def test_an_artifact_of_a_newer_visionflows_is_refused(trained, where, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(trained.storage, copy)
    info = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(info | {"schema_version": 99}))
    with pytest.raises(ModelError, match="newer visionflows"):
        artifact.load_model(open_storage(where(copy)))


def test_nothing_is_unpickled_to_score(trained, where, tmp_path):
    """Python's audit events of unpickling, while a folder is scored."""
    looked_up, listening = [], True

    def hook(event, arguments):
        if listening and event == "pickle.find_class":
            looked_up.append(arguments)

    sys.addaudithook(hook)
    pickle.loads(pickle.dumps(Path("x")))
    assert looked_up, "the audit does not see what it should"
    looked_up.clear()
    folder = write_shapes(tmp_path / "in", each=1)
    score_folder(where(folder), "shapes", where(tmp_path / "out"), where(trained.store))
    listening = False
    assert looked_up == []
