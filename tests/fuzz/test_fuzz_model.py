"""model.json, self-checks and aliases with any content: an error of one line, no file outside."""

import json

from conftest import encoded, picture
from fuzzing import HOSTILE, TEXTS, Outside, documents, fuzz, one_line_errors, pieces
from hypothesis import given
from hypothesis import strategies as st

from visionflows.hashing import sha256_of
from visionflows.models.artifact import load_model, read_selfcheck
from visionflows.models.registry import find_model, list_models
from visionflows.storage.local import LocalStorage


class Bucket:
    """Files by key with any name, like a model in a bucket."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files

    def read(self, name: str) -> bytes:
        try:
            return self.files[name]
        except KeyError as error:
            raise FileNotFoundError(name) from error

    def exists(self, name: str) -> bool:
        return name in self.files

    def __str__(self) -> str:
        return "s3://lab/model"


def bundle_files() -> dict[str, bytes]:
    """A small model whose network is never run."""
    files = {
        "weights.safetensors": b"weights",
        "files.csv": b"path,label,is_valid,sha256\r\n",
        "selfcheck/0.png": encoded(picture(1), "PNG"),
        "selfcheck/expected.csv": b"image,a,b\n0.png,0.25,0.75\n",
    }
    info = {
        "schema_version": 1,
        "name": "pets",
        "version": "20260101",
        "architecture": "resnet18",
        "classes": ["a", "b"],
        "image_size": 32,
        "resize": "crop",
        "normalise": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
        "precision": {"agreement": {"auto": "float32", "why": "no evidence"}},
        "metrics": {"error_rate": 0.1, "by_class": [{"class": "a", "count": 1}]},
        "files": {name: sha256_of(data) for name, data in files.items()},
    }
    return files | {"model.json": json.dumps(info).encode()}


def test_a_model_json(tmp_path, monkeypatch):
    outside, real = Outside(tmp_path), bundle_files()
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "inside/cache"))
    store = LocalStorage(tmp_path / "inside/store")
    for name, data in real.items():
        store.write(f"models/pets/20260101/{name}", data)

    @given(documents(json.loads(real["model.json"])))
    def one(data):
        # Every listed file exists: an accepted name would be written.
        names = dict.fromkeys(HOSTILE, b"outside")
        with one_line_errors():
            read_selfcheck(load_model(Bucket({**names, **real, "model.json": data})))
        store.write("models/pets/20260101/model.json", data)
        list_models(str(store))
        with one_line_errors():
            load_model(find_model("pets@20260101", str(store)))
        outside.check()

    fuzz(one)


def test_a_self_check_and_an_alias(tmp_path):
    outside, real = Outside(tmp_path), bundle_files()
    store = LocalStorage(tmp_path / "inside/store")
    for name, data in real.items():
        store.write(f"models/pets/20260101/{name}", data)
    lines = st.lists(st.lists(TEXTS | st.just("0.png"), max_size=4), max_size=4)
    tables = lines.map(lambda rows: "\n".join(map(",".join, rows)).encode(errors="replace"))

    @given(tables | pieces(real["selfcheck/expected.csv"]), TEXTS | st.just("20260101"))
    def one(expected, alias):
        info = json.loads(real["model.json"])
        info["files"]["selfcheck/expected.csv"] = sha256_of(expected)
        store.write("models/pets/20260101/selfcheck/expected.csv", expected)
        store.write("models/pets/20260101/model.json", json.dumps(info).encode())
        store.write("models/pets/aliases/latest", alias.encode(errors="replace"))
        with one_line_errors():
            read_selfcheck(load_model(find_model("pets", str(store))))
        list_models(str(store))
        outside.check()

    fuzz(one)
