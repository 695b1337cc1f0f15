"""The OpenVINO engine: fastai's predictions in any batch, without torch or telemetry."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scored_runs import fastai_probabilities

from visionflows.errors import ModelError, SettingsError
from visionflows.inference import EngineSettings, make_engine
from visionflows.inference.openvino import import_openvino
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.storage import open_storage

PRECISIONS = ("float32", "bfloat16")


@pytest.fixture
def model(trained):
    return load_model(find_model("shapes", trained.store))


def engine_of(model, **settings):
    return make_engine(model, EngineSettings(device="cpu", **settings))


def test_openvino_scores_on_a_cpu(model):
    assert engine_of(model).kernel == "openvino"
    assert engine_of(model, engine="torch").kernel == "eager"


def test_openvino_torch_and_fastai_give_the_same(trained, model):
    files = sorted(trained.dataset.rglob("*.png"))
    names = [file.relative_to(trained.dataset).as_posix() for file in files]
    where = open_storage(trained.dataset)
    ours, torchs = (
        engine_of(model, engine=engine, precision="float32").predict_files(where, names)
        for engine in ("openvino", "torch")
    )
    expected = fastai_probabilities(trained.export, files)
    for name, answer in zip(names, expected, strict=True):
        assert np.abs(ours[name] - answer).max() < 1e-4
        assert np.abs(torchs[name] - answer).max() < 1e-4


@pytest.mark.parametrize("together", [None, 4])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_output_does_not_depend_on_the_batch(model, precision, together):
    rng = np.random.default_rng(1)
    one = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    seen = set()
    for workers in (1, 2):
        engine = engine_of(model, precision=precision, workers=workers, batch_size=together)
        for slot in range(16):
            batch = rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
            batch[slot] = one[0]
            seen.add(engine.probabilities(batch)[slot].tobytes())
        seen.add(engine.probabilities(one)[0].tobytes())
        seen.add(engine.probabilities(np.concatenate([one] * 33))[32].tobytes())
    assert len(seen) == 1


def test_streams_do_not_wait_for_each_other(trained, model, monkeypatch):
    """Creating an OpenVINO request waits for running inferences, so streams create none."""
    made, compiled = [], import_openvino().CompiledModel
    monkeypatch.setattr(
        compiled,
        "create_infer_request",
        lambda self, make=compiled.create_infer_request: made.append(1) or make(self),
    )
    engine = engine_of(model, workers=2)
    assert len(made) == 2
    files = trained.dataset.rglob("*.png")
    names = [file.relative_to(trained.dataset).as_posix() for file in files]
    for _ in range(2):
        assert len(engine.predict_files(open_storage(trained.dataset), names)) == len(names)
    assert len(made) == 2


def test_a_file_that_openvino_cannot_read_is_one_line(model, monkeypatch):
    monkeypatch.setattr(type(model.files), "read", lambda self, name: b"no network")
    with pytest.raises(
        ModelError, match=r"OpenVINO cannot run the network .*--engine torch"
    ) as caught:
        engine_of(model)
    assert "\n" not in str(caught.value)


def test_openvino_on_a_gpu_is_refused(model):
    with pytest.raises(SettingsError, match="OpenVINO runs on the CPU, and the device is cuda"):
        make_engine(model, EngineSettings(device="cuda", engine="openvino"))


WATCHED = """
import os, sys
events = []
watched = ("socket.connect", "subprocess.Popen", "os.fork", "os.posix_spawn")
sys.addaudithook(lambda event, args: events.append((event, args)) if event in watched else None)
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings
run = score_folder(sys.argv[1], "shapes", sys.argv[2], sys.argv[3], ScoreSettings(device="cpu"))
for fd in os.listdir("/proc/self/fd"):
    path = f"/proc/self/fd/{fd}"
    events += [path] if os.path.exists(path) and "socket" in os.readlink(path) else []
heavy = "torch torchvision fastai timm onnx openvino_telemetry pandas prefect matplotlib scipy"
print(run["counts"]["ok"], [name for name in heavy.split() if sys.modules.get(name)], events)
"""


BROKEN = """
import logging, sys
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings
from visionflows.serve.doctor import check_engine
score_folder(sys.argv[1], "shapes", sys.argv[2], sys.argv[3], ScoreSettings(device="cpu"))
print(check_engine().message)
"""


@pytest.mark.slow
def test_torch_scores_if_openvino_cannot_be_imported(trained, tmp_path):
    broken = tmp_path / "site/openvino/__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text('raise ImportError("libtbb.so.12: cannot open shared object file")')
    command = [sys.executable, "-c", BROKEN, trained.dataset, tmp_path / "out", trained.store]
    paths = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    result = subprocess.run(command, env=paths, capture_output=True, text=True, check=True)
    why = "OpenVINO cannot be imported (libtbb.so.12: cannot open shared object file)"
    assert f"scoring with torch: {why}" in result.stdout
    assert f"{why}: torch scores on the CPU" in result.stdout
    backends = json.loads((tmp_path / "out/run.json").read_text())["backends"]
    assert [backend["kernel"] for backend in backends] == ["eager"]


SIGNALLED = """
import faulthandler, os, signal, sys
faulthandler.enable()
from visionflows.inference import EngineSettings, make_engine
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
model = load_model(find_model("shapes", sys.argv[1]))
engines = [make_engine(model, EngineSettings(device="cpu")) for _ in range(2)]
while engines:
    engines.pop(0)
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_after_engines_are_freed_does_not_crash(trained):
    """With two OpenVINO cores, the last one to end restores a stack that the other has freed."""
    command = [sys.executable, "-c", SIGNALLED, trained.store]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "handled\n")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc on this machine")
def test_scoring_imports_nothing_heavy_and_sends_no_telemetry(trained, tmp_path):
    command = [sys.executable, "-c", WATCHED, trained.dataset, tmp_path / "out", trained.store]
    home = os.environ | {"HOME": str(tmp_path)}
    result = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == f"{len(trained.table)} [] []"
    assert not (tmp_path / "intel").exists()  # where its telemetry would store a user ID


def test_openvino_is_only_imported_without_telemetry():
    """`import openvino` alone sends a message: see `runtime`."""
    root = Path(__file__).parents[2]
    for path in (*root.glob("visionflows/**/*.py"), *root.glob("bench/*.py")):
        assert not {"openvino", "nncf"} & imported(ast.parse(path.read_text())), path


def imported(tree: ast.Module) -> set[str]:
    """The runtime imports of a file, without those for type checkers."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
        found |= {name.partition(".")[0] for name in names if isinstance(node, ast.Import)}
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


FIRST_USE = """
import threading, time
from visionflows.inference.openvino import import_openvino, openvino_core
openvino_core()
go = []
def use():
    while not go:
        pass
    import_openvino().Type.u8.to_dtype()
threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads:
    thread.start()
time.sleep(0.1)
go.append(True)
for thread in threads:
    thread.join()
"""


@pytest.mark.slow
def test_streams_that_begin_at_once_do_not_wait_for_each_other_for_ever():
    """Without the tables that openvino_core makes, two of five such programs hang."""
    for _ in range(8):
        subprocess.run([sys.executable, "-c", FIRST_USE], check=True, timeout=60)
