"""The GPU's stream: its decode processes everywhere, the device itself where there is one."""

import os
import signal
import threading

import numpy as np
import pytest
import torch
from conftest import write_shapes

from visionflows.engine import Engine, EngineSettings, gpu, make_engine
from visionflows.errors import RunError
from visionflows.model.bundle import load
from visionflows.model.registry import find
from visionflows.places import place


@pytest.fixture
def engine(trained) -> Engine:
    settings = EngineSettings(device="cpu", precision="float32", batch_size=4, workers=2)
    return make_engine(load(find("shapes", trained.store)), settings)


def batches(folder, size: int = 4) -> list[list[str]]:
    names = [entry.name for entry in place(folder).walk()]
    return [names[at : at + size] for at in range(0, len(names), size)]


def test_decode_processes_give_whole_batches_in_order(engine, tmp_path):
    folder = write_shapes(tmp_path, each=9)
    (folder / "circle/0004.png").write_bytes(b"broken")
    wanted = batches(folder)
    taken = list(gpu._told(gpu._loader(engine, place(folder), wanted)))
    assert [[row.name for row in decoded.rows] for decoded in taken] == wanted
    ours = [engine.decoder(place(folder), names) for names in wanted]
    for theirs, here in zip(taken, ours, strict=True):
        assert theirs.good == here.good
        assert np.array_equal(theirs.pixels.numpy(), here.pixels)
    assert [row.status for decoded in taken for row in decoded.rows].count("unreadable") == 1


def test_a_decode_process_that_dies_ends_the_run_in_one_line(engine, tmp_path):
    folder = write_shapes(tmp_path, each=40)
    stream = gpu._told(gpu._loader(engine, place(folder), batches(folder, 1)))
    next(stream)
    pids = [child.pid for child in torch.multiprocessing.active_children()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # so that the stream is waiting for them when they die
    threading.Timer(1, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids]).start()
    with pytest.raises(RunError, match=r"a decode process died .* run it again") as told:
        list(stream)
    assert "\n" not in str(told.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_gives_the_rows_of_the_cpu(trained, engine, tmp_path):
    folder = write_shapes(tmp_path, each=30, first_seed=600)
    (folder / "circle/0600.png").write_bytes(b"broken")
    model = load(find("shapes", trained.store))
    gpu = make_engine(model, EngineSettings(device="cuda", precision="float32", batch_size=16))
    wanted = batches(folder, 16)
    theirs = [row for rows in gpu.stream(place(folder), wanted) for row in rows]
    ours = [row for rows in engine.stream(place(folder), batches(folder)) for row in rows]
    assert [row[:3] for row in theirs] == [row[:3] for row in ours]
    for there, here in zip(theirs, ours, strict=True):
        if here.status == "ok":
            assert np.abs(there.probabilities - here.probabilities).max() < 1e-4
