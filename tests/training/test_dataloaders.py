"""Dataloaders: a thread and processes load the same batches, and leave no thread behind."""

import pickle
import re
import threading
import time
from multiprocessing.reduction import ForkingPickler

import pytest
from conftest import write_oblong

from visionflows.datasets.file_table import build_table
from visionflows.errors import TrainError
from visionflows.training import dataloaders
from visionflows.training.dataloaders import make_dataloaders
from visionflows.training.distributed.sharded_loader import ShardedLoader
from visionflows.training.settings import TrainSettings

SETTINGS = TrainSettings(
    architecture="test_resnet", pretrained="none", image_size=32, batch_size=8, augment="none"
)


def loaders_of(trained, **settings):
    return make_dataloaders(trained.table, trained.dataset, SETTINGS.model_copy(update=settings))


def test_a_thread_loads_the_same_batches_as_processes(trained):
    by_thread, by_processes = loaders_of(trained, workers=0), loaders_of(trained, workers=2)
    assert len(list(by_thread.train)) == len(by_thread.train) > 1
    for here, there in zip(by_thread.valid, by_processes.valid, strict=True):
        assert all(bool((batch == other).all()) for batch, other in zip(here, there, strict=True))


def test_a_loader_can_be_sent_to_processes_that_are_not_forked(trained):
    """The default on macOS, and from Python 3.14 on."""
    for loader in loaders_of(trained, workers=2).loaders:
        sharded = ShardedLoader(loader, 0, 2, device="cpu")
        there = [pickle.loads(ForkingPickler.dumps(each.fake_l)).d for each in (loader, sharded)]
        for each in (there[0], there[1].dl):
            assert each.create_item(0)[0].size == loader.create_item(0)[0].size


def test_one_thread_loads_in_order_and_the_next_batch_while_one_trains(trained):
    loader = loaders_of(trained, workers=0).valid
    create, opened, next_one = loader.create_item, [], threading.Event()

    def create_item(at):
        opened.append((at, threading.current_thread()))
        if len(opened) > loader.bs:
            next_one.set()
        return create(at)

    loader.create_item = create_item
    batches = iter(loader)
    next(batches)
    assert next_one.wait(10)
    assert len(list(batches)) == len(loader) - 1
    assert [at for at, _ in opened] == list(range(len(loader.dataset)))
    assert {by for _, by in opened}.isdisjoint({threading.main_thread()})
    assert len({by for _, by in opened}) == 1


def test_an_error_while_loading_is_raised_to_the_consumer(trained):
    loader = loaders_of(trained, workers=0).valid

    def create_item(at):
        raise OSError("the disk is gone")

    loader.create_item = create_item
    with pytest.raises(OSError, match="the disk is gone"):
        list(loader)


def test_a_loader_restarts_after_a_partial_pass(trained):
    loaders = loaders_of(trained, workers=0)
    first = next(iter(loaders.valid))[1]
    assert bool((next(iter(loaders.valid))[1] == first).all())


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_crops_do_not_depend_on_unused_batches(tmp_path, pause):
    """After one batch or a partial pass, the progress of the loading thread is random."""
    write_oblong(tmp_path)
    table = build_table(tmp_path, "folder", valid_pct=0.25)
    settings = SETTINGS.model_copy(update={"batch_size": 4, "image_size": 24, "workers": 0})
    shown = []
    for wait in (0, pause):
        loader = make_dataloaders(table, tmp_path, settings).train
        loader.one_batch()
        next(iter(loader))
        time.sleep(wait)
        shown.append([batch[0] for batch in loader] + [batch[0] for batch in loader])
    first, second = shown
    assert all(bool((batch == other).all()) for batch, other in zip(first, second, strict=True))
    assert not bool((first[0] == first[len(first) // 2]).all())  # another epoch, other crops


def test_one_batch_leaves_no_thread_running(trained):
    loader = loaders_of(trained, workers=2).train
    create, opened = loader.create_item, []
    loader.create_item = lambda at: opened.append(at) or create(at)
    loader.one_batch()
    time.sleep(0.3)
    assert len(opened) == loader.bs


@pytest.mark.parametrize(
    "cores, workers, wanted", [(2, None, 0), (4, None, 0), (2, 3, 3), (64, 0, 0)]
)
def test_worker_count_depends_on_cores_and_settings(monkeypatch, cores, workers, wanted):
    monkeypatch.setattr(dataloaders, "cores", lambda: cores)
    monkeypatch.setattr("fastai.torch_core.defaults.use_cuda", False)
    assert dataloaders.worker_count(SETTINGS.model_copy(update={"workers": workers})) == wanted


def test_many_cores_or_full_decoding_use_processes(monkeypatch):
    monkeypatch.setattr(dataloaders, "decoder_count", lambda: 64)
    monkeypatch.setattr(dataloaders, "cores", lambda: 64)
    assert dataloaders.worker_count(SETTINGS) == 16
    monkeypatch.setattr(dataloaders, "cores", lambda: 2)
    assert dataloaders.worker_count(SETTINGS.model_copy(update={"decode": "full"})) == 16


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("lost", ["gone", "cut"])
def test_an_image_lost_during_training_is_an_error_of_one_line(tmp_path, workers, lost):
    folder = write_oblong(tmp_path / "in")
    table = build_table(folder, "folder", valid_pct=0.25)
    settings = SETTINGS.model_copy(update={"batch_size": 4, "workers": workers})
    loader = make_dataloaders(table, folder, settings).train
    assert len(list(loader)) == 4
    for file in folder.rglob("*.png"):
        file.unlink() if lost == "gone" else file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(TrainError) as error:
        list(loader)
    why = "the file was gone when it was read" if lost == "gone" else "image file is truncated"
    assert re.fullmatch(
        rf"{folder}/\w+/\d+\.png: (OSError: )?{why}, but it was readable when "
        "training began; do not change the dataset while it trains, and run again",
        str(error.value),
    )


def augmentation_of(trained, **settings) -> tuple[int, bool, float]:
    """How many affine transforms a training batch gets, whether it is warped, and its light."""
    transforms = loaders_of(trained, workers=0, **settings).train.after_batch.fs
    affine = next(one for one in transforms if hasattr(one, "aff_fs"))
    light = next(one.max_lighting for one in transforms if hasattr(one, "max_lighting"))
    return len(affine.aff_fs), bool(affine.coord_fs), float(light)


@pytest.mark.slow
def test_augmentation_is_as_strong_as_asked(trained):
    plain = [type(one).__name__ for one in loaders_of(trained, workers=0).train.after_batch.fs]
    assert plain == ["IntToFloatTensor", "Normalize"]
    found = [augmentation_of(trained, augment=name) for name in ("light", "default", "strong")]
    assert found == [(3, False, 0.1), (3, True, 0.2), (3, True, 0.4)]
    assert augmentation_of(trained, augment="default", flip=False) == (2, True, 0.2)
