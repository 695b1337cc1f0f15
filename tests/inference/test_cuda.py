"""The GPU engine: its decode processes, and the device if there is one."""

import gc
import multiprocessing.resource_sharer
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from conftest import write_shapes

from visionflows.errors import RunError
from visionflows.inference import Engine, EngineSettings, make_engine
from visionflows.inference.cuda import decoded_batches
from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.storage import open_storage
from visionflows.storage.local import LocalStorage


@pytest.fixture
def engine(trained) -> Engine:
    settings = EngineSettings(device="cpu", precision="float32", batch_size=4, workers=2)
    return make_engine(load_model(find_model("shapes", trained.store)), settings)


def batches(folder, size: int = 4) -> list[list[str]]:
    names = [entry.name for entry in open_storage(folder).walk()]
    return [names[at : at + size] for at in range(0, len(names), size)]


def test_decode_processes_return_batches_in_order(engine, tmp_path):
    folder = write_shapes(tmp_path, each=9)
    (folder / "square/0000.png").write_bytes(b"broken")
    wanted = batches(folder)
    taken = list(decoded_batches(engine.decoder, open_storage(folder), wanted, engine.workers))
    assert [[row.name for row in decoded.rows] for decoded in taken] == wanted
    ours = [engine.decoder(open_storage(folder), names) for names in wanted]
    for theirs, here in zip(taken, ours, strict=True):
        assert theirs.ok_count == here.ok_count
        assert np.array_equal(theirs.pixels.numpy(), here.pixels)
    assert [row.status for decoded in taken for row in decoded.rows].count("unreadable") == 1


def stream_of(engine, files):
    """A stream after its first batch, and its decode processes."""
    before = set(torch.multiprocessing.active_children())
    stream = decoded_batches(engine.decoder, files, batches(files.root, 1), engine.workers)
    next(stream)
    return stream, [child.pid for child in set(torch.multiprocessing.active_children()) - before]


def killed(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def ends_in_one_line(stream) -> None:
    with pytest.raises(RunError, match=r"a decode process died .* run again") as caught:
        list(stream)
    assert "\n" not in str(caught.value)


def test_a_decode_process_that_dies_while_waited_for_is_an_error(engine, tmp_path):
    stream, pids = stream_of(engine, open_storage(write_shapes(tmp_path, each=40)))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    threading.Timer(1, killed, [pids]).start()
    ends_in_one_line(stream)


def test_a_decode_process_that_dies_during_other_work_is_an_error(engine, tmp_path):
    """The stream reports their death, never in the middle of writing rows."""
    stream, pids = stream_of(engine, open_storage(write_shapes(tmp_path, each=40)))
    killed(pids)
    time.sleep(1)
    ends_in_one_line(stream)


class Dying(LocalStorage):
    """Its fifth file kills the process like the kernel: first the socket, then the process."""

    def read_many(self, entries, most=None):
        entries = list(entries)
        if entries[0].name != "square/0000.png":
            return super().read_many(entries, most)
        multiprocessing.resource_sharer.stop()
        self.write("closed", b"")
        time.sleep(0.7)
        os._exit(1)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_decode_process_that_dies_while_its_batch_is_fetched_is_an_error(engine, tmp_path):
    """The end of the other process is not reported as a second death."""
    files = Dying(write_shapes(tmp_path, each=4))
    stream, _ = stream_of(engine, files)
    while not files.exists("closed"):
        time.sleep(0.01)
    ends_in_one_line(stream)
    del stream
    gc.collect()


class GoneAway(LocalStorage):
    def read_many(self, entries, most=None):
        raise ConnectionResetError("the store is gone")


def test_an_error_in_a_decode_process_is_raised_unchanged(engine, tmp_path):
    folder = write_shapes(tmp_path, each=4)
    stream = decoded_batches(engine.decoder, GoneAway(folder), batches(folder, 1), engine.workers)
    with pytest.raises(ConnectionError, match="the store is gone"):
        list(stream)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_gives_the_rows_of_the_cpu(trained, engine, tmp_path):
    folder = write_shapes(tmp_path, each=30, first_seed=600)
    (folder / "circle/0600.png").write_bytes(b"broken")
    model = load_model(find_model("shapes", trained.store))
    gpu = make_engine(model, EngineSettings(device="cuda", precision="float32", batch_size=16))
    wanted = batches(folder, 16)
    theirs = [row for rows in gpu.predict_batches(open_storage(folder), wanted) for row in rows]
    ours = [
        row
        for rows in engine.predict_batches(open_storage(folder), batches(folder))
        for row in rows
    ]
    assert [row[:3] for row in theirs] == [row[:3] for row in ours]
    for there, here in zip(theirs, ours, strict=True):
        if here.status == "ok":
            assert np.abs(there.probabilities - here.probabilities).max() < 1e-4
