"""The sides of bench/score.py: each loads once and returns the function that is timed.

A side takes the options and the paths of the photos. The returned function returns the labels in
the order of the photos, the number of images, and optionally its own time in seconds.
bench/score.py describes each side.
"""

import contextlib
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

_decoders: list = []  # of the side `decode`
_prefect = contextlib.ExitStack()  # a server until this process ends


def model_of(options):
    from visionflows.models import artifact, registry

    return artifact.load_model(registry.find_model(options.model, options.store))


def _learner(options):
    import warnings

    import torch
    from fastai.learner import load_learner

    warnings.filterwarnings("ignore")
    learn = load_learner(
        f"{model_of(options).storage}/export.pkl", cpu=not torch.cuda.is_available()
    )
    if torch.cuda.is_available():
        learn.dls.cuda()
        learn.model.cuda()
    return learn


def predict(options, photos):
    learn, few = _learner(options), photos[: options.few]

    def run():
        with learn.no_bar(), learn.no_logging():
            return [learn.predict(path)[0] for path in few], len(few)

    return run


def get_preds(options, photos):
    learn, some = _learner(options), photos[: options.some]

    def run():
        with learn.no_bar(), learn.no_logging():
            # num_workers: fastai's default (the learner was exported without workers).
            loader = learn.dls.test_dl(
                [Path(path) for path in some], bs=64, num_workers=min(16, os.cpu_count())
            )
            probabilities, _ = learn.get_preds(dl=loader)
        return [learn.dls.vocab[at] for at in probabilities.argmax(1)], len(some)

    return run


def _on_device(options):
    """The model, its network for the peers, and the device."""
    import torch

    from visionflows.models import artifact

    model = model_of(options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model, artifact.load_network(model).to(device), device


def plain(options, photos):
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    (model, network, device), some = _on_device(options), photos[: options.some]
    size, normalise = model.info.image_size, model.info.normalise
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(normalise.mean, normalise.std),
        ]
    )

    class Photos(Dataset):
        def __len__(self):
            return len(some)

        def __getitem__(self, at):
            return transform(Image.open(some[at]).convert("RGB"))

    def run():
        loader = DataLoader(
            Photos(), batch_size=64, num_workers=os.cpu_count(), pin_memory=device.type == "cuda"
        )
        labels = []
        with torch.inference_mode():
            for images in loader:
                probabilities = network(images.to(device, non_blocking=True)).softmax(1)
                labels += [model.classes[at] for at in probabilities.argmax(1).tolist()]
        return labels, len(labels)

    return run


def timm(options, photos):
    import timm.data
    import torch

    (model, network, device), some = _on_device(options), photos[: options.some]
    size, normalise = model.info.image_size, model.info.normalise
    folder = Path(tempfile.mkdtemp())
    for path in some:
        (folder / Path(path).name).symlink_to(Path(path).absolute())

    def run():
        dataset = timm.data.create_dataset("", root=folder, class_map="")
        loader = timm.data.create_loader(
            dataset,
            input_size=(3, size, size),
            batch_size=256,
            use_prefetcher=device.type == "cuda",
            num_workers=2,  # inference.py's default
            mean=normalise.mean,
            std=normalise.std,
            crop_pct=1.0,
            device=device,
        )
        labels = []
        with torch.no_grad():
            for images, _ in loader:
                top = network(images.to(device)).softmax(-1).topk(1)
                labels += [model.classes[at] for at in top.indices[:, 0].tolist()]
        return labels, len(labels)

    return run


def flow(options, photos):
    from prefect.testing.utilities import prefect_test_harness

    _prefect.enter_context(prefect_test_harness(server_startup_timeout=180))
    from flows.score import score
    from visionflows.scoring.settings import ScoreSettings

    settings = ScoreSettings(precision=options.precision, decode=options.decode)
    store = options.store
    return _from_folder(
        options,
        photos,
        lambda folder, output: score(
            folder, options.model, output=output, store=store, settings=settings
        ),
    )


def full(options, photos):
    return engine(options, photos, decode="full")


def engine(options, photos, decode=""):
    from visionflows.inference import open_engine
    from visionflows.scoring.local_run import LocalRun
    from visionflows.scoring.run import lock_output
    from visionflows.scoring.settings import ScoreSettings

    settings = ScoreSettings(precision=options.precision, decode=decode or options.decode)
    loaded = open_engine(options.model, options.store, settings)

    def score(folder, output):
        run = LocalRun(folder, output, loaded, settings)
        with lock_output(output, 0), contextlib.closing(run):
            for shard in run.pending_shards():
                run.score(shard)
            return run.merge().as_dict()

    return _from_folder(options, photos, score)


def _from_folder(options, photos, score):
    """A run that measures its own time, without reading the labels from the CSV."""

    def run(folder: str = options.photos):
        with tempfile.TemporaryDirectory() as output:
            began = time.perf_counter()
            result = score(folder, output)
            seconds = time.perf_counter() - began
            return _labels(output), result["counts"]["found"], seconds

    _with_few(photos, run)  # warm up: Prefect's server starts with the first run
    return run


def _with_few(photos, run) -> None:
    """Run over a few photos, so that no import is timed."""
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(photos[:64]):
            (Path(folder) / f"{number}.jpg").symlink_to(Path(path).absolute())
        run(folder)


def _labels(output: str) -> list[str]:
    import csv

    with open(f"{output}/predictions.csv", newline="", encoding="utf-8") as file:
        return [row["label"] for row in sorted(csv.DictReader(file), key=lambda row: row["path"])]


def engine_of(options):
    from visionflows.inference import EngineSettings, make_engine

    return make_engine(model_of(options), EngineSettings(precision=options.precision))


def decode(options, photos):
    engine = engine_of(options)
    size = engine.batch_size
    batches = [photos[at : at + size] for at in range(0, len(photos), size)]
    _decoders.append(engine.decoder)  # has locks, which fork inherits but pickle refuses
    pool = multiprocessing.get_context("fork").Pool(os.cpu_count())

    def run():
        return [], sum(pool.imap_unordered(_decode, batches))

    run()
    return run


def _decode(names) -> int:
    from visionflows.storage.local import LocalStorage

    return len(_decoders[0](LocalStorage(Path("/")), [name.lstrip("/") for name in names]).rows)
