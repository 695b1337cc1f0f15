"""model.json, self-checks and aliases with any content: an error of one line, no file outside."""

import json

from fuzzing import HOSTILE, TEXTS, Outside, documents, fuzz, one_line_errors, pieces
from hypothesis import given
from hypothesis import strategies as st
from model_files import Bucket, bundle_files

from visionflows.hashing import sha256_of
from visionflows.models.artifact import load_model, read_selfcheck
from visionflows.models.registry import find_model, list_models
from visionflows.storage.local import LocalStorage


def test_a_model_json(tmp_path, monkeypatch):
    outside, real = Outside(tmp_path), bundle_files()
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "inside/cache"))
    read_selfcheck(load_model(Bucket(real)))  # is not refused
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
