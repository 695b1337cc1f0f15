"""The model bundle: what is written, how it is found, and what is refused."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CLASSES, write_shapes

from tasks import bundle
from tasks.errors import ModelError, SettingsError
from tasks.predict import score_folder
from tasks.storage import place


def test_a_bundle_holds_what_the_contract_says(trained):
    where = Path(trained.place)
    info = json.loads((where / "model.json").read_text())
    assert info["classes"] == list(CLASSES)
    assert {"schema_version", "architecture", "image_size", "resize", "normalise"} <= set(info)
    for name in ("weights.safetensors", "files.csv", "selfcheck/expected.csv", "selfcheck/0.png"):
        assert (where / name).is_file()
        assert name in info["files"]
    pictures = {path.stem for path in (where / "pictures").glob("*.png")}
    assert pictures == {"batch", "results", "confusion", "top_losses", "curves"}
    header = (where / "files.csv").read_text().splitlines()[0]
    assert header == "path,label,is_valid,sha256"


def test_names_aliases_versions_and_places_find_the_same_bundle(trained):
    name, version = "shapes", Path(trained.place).name
    for model in (name, f"{name}@latest", f"{name}@{version}", trained.place):
        assert str(bundle.find(model, trained.store)) == trained.place


def test_an_alias_means_the_version_it_was_given(trained, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(trained.store, store)
    version = Path(trained.place).name
    bundle.set_alias(store, "shapes", "production", version)
    assert str(bundle.find("shapes@production", store)).endswith(version)
    assert (store / "models/shapes/aliases/production").read_text() == f"{version}\n"
    [row] = bundle.catalogue(store)
    assert row["aliases"] == ["latest", "production"]
    with pytest.raises(ModelError, match="no such version"):
        bundle.set_alias(store, "shapes", "production", "20200101T000000000Z-00000000")


def test_what_does_not_exist_is_named_with_what_does(trained, tmp_path):
    with pytest.raises(ModelError, match=r"dogs: no such model in .*; there is shapes"):
        bundle.find("dogs", trained.store)
    with pytest.raises(ModelError, match="no such version or alias; shapes has the aliases latest"):
        bundle.find("shapes@production", trained.store)
    with pytest.raises(ModelError, match="none yet"):
        bundle.find("shapes", tmp_path)
    with pytest.raises(ModelError, match="no model bundle there"):
        bundle.load(place(tmp_path))


def test_versions_sort_by_time_and_do_not_collide():
    versions = [bundle.new_version() for _ in range(200)]
    assert len(set(versions)) == 200
    stamps = [version.partition("-")[0] for version in versions]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("name", ["", "a b", "../up", "-x", "a/b", "ä"])
def test_names_that_cannot_be_a_folder_are_refused(name):
    with pytest.raises(SettingsError, match="not a name for a model"):
        bundle.check_name(name)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda where: (where / "model.json").write_text("{"), "not JSON"),
        (lambda where: (where / "model.json").write_text("{}"), "lacks schema_version"),
        (lambda where: (where / "selfcheck/0.png").unlink(), "missing from the bundle"),
        (lambda where: (where / "selfcheck/0.png").write_bytes(b"x"), "cut or changed"),
    ],
)
def test_a_damaged_bundle_is_refused_in_one_line(trained, tmp_path, change, says):
    copy = tmp_path / "bundle"
    shutil.copytree(trained.place, copy)
    change(copy)
    with pytest.raises(ModelError, match=says) as caught:
        bundle.load(place(copy))
    assert "\n" not in str(caught.value)


def test_a_bundle_of_a_newer_visionflows_is_refused(trained, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(trained.place, copy)
    info = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps(info | {"schema_version": 99}))
    with pytest.raises(ModelError, match="newer visionflows"):
        bundle.load(place(copy))


def test_nothing_is_unpickled_to_score(trained, tmp_path):
    """Python's own audit of every class that an unpickler looks up, while a folder is scored."""
    looked_up, listening = [], True

    def hook(event, arguments):
        if listening and event == "pickle.find_class":
            looked_up.append(arguments)

    sys.addaudithook(hook)
    pickle.loads(pickle.dumps(Path("x")))
    assert looked_up, "the audit does not see what it should"
    looked_up.clear()
    folder = write_shapes(tmp_path / "in", each=1)
    score_folder(str(folder), str(tmp_path / "out"), "shapes", trained.store)
    listening = False
    assert looked_up == []


def test_export_pkl_opens_where_visionflows_is_not(trained, tmp_path):
    """fastai's load_learner, in another process and folder, with none of our rooms importable."""
    image = sorted(trained.dataset.glob("circle/*.png"))[0]
    script = f"""
import importlib.abc, sys, warnings
warnings.filterwarnings("ignore")
class NoRooms(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tasks", "flows"):
            raise ImportError(f"{{name}}: visionflows is not here")
sys.meta_path.insert(0, NoRooms())
from fastai.vision.all import load_learner
learn = load_learner({str(trained.export)!r})
with learn.no_bar():
    label, index, probabilities = learn.predict({str(image)!r})
print(label, *probabilities.tolist())
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    label, *expected = result.stdout.split()
    from tasks.engine import Engine, EngineSettings

    engine = Engine(bundle.load(place(trained.place)), EngineSettings(batch_size=1, workers=1))
    [[row]] = engine.stream(place(image.parent), [[image.name]])
    assert CLASSES[int(row.probabilities.argmax())] == label
    assert row.probabilities.tolist() == pytest.approx([float(p) for p in expected], abs=1e-4)
