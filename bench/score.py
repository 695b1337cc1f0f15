"""How fast a folder becomes rows: this engine, fastai's own ways, peers, and the limit.

    make bench BENCH="--model pets --photos inbox"
    python bench/score.py --model pets --store store --photos inbox --rounds 3

Every side scores the same photos with the same weights, from the folder to rows in memory (this
one: to its CSV, through its Prefect flow). Each is a process of its own that loads everything
first; then they take turns, so that a slow minute of the machine falls on all of them. Figures
are ratios of medians, written with versions and hardware to bench/results/.

    predict     fastai, learn.predict in a loop
    get_preds   fastai, learn.get_preds(learn.dls.test_dl(files)), its defaults
    plain       torchvision and a DataLoader, as one writes it by hand
    timm        timm's inference.py: its loader and its defaults
    flow        visionflows, the score flow, Prefect, CSV and report included
    engine      visionflows without Prefect
    folded      the limit as eager torch has it: the network with batch norm folded, channels_last,
                at the flow's precision, on a tensor in memory, a stream a core
    network     the limit of this engine: its own network (convolutions fused too), likewise
    decode      the limit: decoding and resizing alone, all cores
"""

import argparse
import concurrent.futures
import datetime
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

SIDES = ("predict", "get_preds", "plain", "timm", "flow", "engine", "folded", "network", "decode")


def main() -> None:
    options = _options()
    photos = sorted(str(path) for path in Path(options.photos).rglob("*.jpg"))
    rounds: dict[str, list[dict]] = {side: [] for side in options.sides}
    context = multiprocessing.get_context("spawn")
    workers = {side: _Worker(context, side, options, photos) for side in options.sides}
    for number in range(options.rounds):
        for side, worker in workers.items():
            result = worker.run()
            rounds[side].append(result)
            print(f"round {number + 1}  {side:10} {result['rate']:9.1f} images/s", flush=True)
    for worker in workers.values():
        worker.close()
    _write(options, rounds, len(photos))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True, help="a folder of .jpg photos")
    parser.add_argument("--model", required=True, help="a model trained with --export-fastai")
    parser.add_argument("--store", default="store")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--few", type=int, default=100, help="photos of the side `predict`")
    parser.add_argument("--some", type=int, default=100_000, help="photos of fastai and peers")
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--note", default="", help="a word for the name of the result")
    return parser.parse_args()


class _Worker:
    """A side in a process of its own, loaded once, run when told."""

    def __init__(self, context, side: str, options, photos: list[str]):
        self.side = side
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, side, options, photos))
        self.process.start()
        self._receive()  # it is ready

    def run(self) -> dict:
        self.pipe.send("run")
        return self._receive()

    def close(self) -> None:
        self.pipe.send("end")
        self.process.join()

    def _receive(self) -> dict:
        try:
            return self.pipe.recv()
        except EOFError:
            sys.exit(f"{self.side}: its process ended; see above")


def _serve(pipe, side: str, options, photos: list[str]) -> None:
    # Loaders fork, as they do in a script of their own; a spawned process would hand on `spawn`.
    multiprocessing.set_start_method("fork", force=True)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    run = globals()[f"_{side}"](options, photos)
    pipe.send({})
    while pipe.recv() == "run":
        began = time.perf_counter()
        labels, count, *own = run()
        seconds = own[0] if own else time.perf_counter() - began
        pipe.send({"rate": count / seconds, "count": count, "labels": labels})


def _model(options):
    from tasks import bundle

    return bundle.load(bundle.find(options.model, options.store))


def _learner(options):
    import warnings

    import torch
    from fastai.learner import load_learner

    warnings.filterwarnings("ignore")
    learn = load_learner(f"{_model(options).place}/export.pkl", cpu=not torch.cuda.is_available())
    if torch.cuda.is_available():
        learn.dls.cuda()
        learn.model.cuda()
    return learn


def _predict(options, photos):
    learn, few = _learner(options), photos[: options.few]

    def run():
        with learn.no_bar(), learn.no_logging():
            return [learn.predict(path)[0] for path in few], len(few)

    return run


def _get_preds(options, photos):
    learn, some = _learner(options), photos[: options.some]

    def run():
        with learn.no_bar(), learn.no_logging():
            # num_workers: what fastai gives a DataLoader that is not told (the learner was
            # exported without workers).
            loader = learn.dls.test_dl(
                [Path(path) for path in some], bs=64, num_workers=min(16, os.cpu_count())
            )
            probabilities, _ = learn.get_preds(dl=loader)
        return [learn.dls.vocab[at] for at in probabilities.argmax(1)], len(some)

    return run


def _plain(options, photos):
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from tasks import bundle

    model, some = _model(options), photos[: options.some]
    size, normalise = model.info["image_size"], model.info["normalise"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = bundle.network_of(model).to(device)
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(normalise["mean"], normalise["std"]),
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
                answers = network(images.to(device, non_blocking=True)).softmax(1)
                labels += [model.classes[at] for at in answers.argmax(1).tolist()]
        return labels, len(labels)

    return run


def _timm(options, photos):
    import timm.data
    import torch

    from tasks import bundle

    model, some = _model(options), photos[: options.some]
    size, normalise = model.info["image_size"], model.info["normalise"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = bundle.network_of(model).to(device)
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
            mean=normalise["mean"],
            std=normalise["std"],
            crop_pct=1.0,
            device=device,
        )
        labels = []
        with torch.no_grad():
            for images, _ in loader:
                answers = network(images.to(device)).softmax(-1).topk(1)
                labels += [model.classes[at] for at in answers.indices[:, 0].tolist()]
        return labels, len(labels)

    return run


def _flow(options, photos):
    from flows.score import score
    from tasks.predict import ScoreSettings

    settings = ScoreSettings(precision=options.precision)

    def run(folder: str = options.photos):
        with tempfile.TemporaryDirectory() as output:
            began = time.perf_counter()
            result = score(
                folder, options.model, output=output, store=options.store, settings=settings
            )
            seconds = time.perf_counter() - began
            return _labels(output), result["books"]["found"], seconds

    _with_few(photos, run)  # Prefect's own server starts with the first run
    return run


def _engine(options, photos):
    from tasks.predict import ScoreSettings, score_folder

    settings = ScoreSettings(precision=options.precision)

    def run(folder: str = options.photos):
        with tempfile.TemporaryDirectory() as output:
            began = time.perf_counter()
            result = score_folder(folder, output, options.model, options.store, settings)
            seconds = time.perf_counter() - began
            return _labels(output), result["books"]["found"], seconds

    _with_few(photos, run)
    return run


def _with_few(photos, run) -> None:
    """A run over a few photos, so that nothing is imported in one that is timed."""
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(photos[:64]):
            (Path(folder) / f"{number}.jpg").symlink_to(Path(path).absolute())
        run(folder)


def _labels(output: str) -> list[str]:
    import csv

    with open(f"{output}/predictions.csv", newline="", encoding="utf-8") as file:
        return [row["label"] for row in sorted(csv.DictReader(file), key=lambda row: row["path"])]


def _opened(options):
    from tasks.engine import Engine, EngineSettings

    return Engine(_model(options), EngineSettings(precision=options.precision))


def _network(options, photos):
    engine = _opened(options)
    return _forwarding(engine, lambda pixels: engine.forward(pixels))


def _folded(options, photos):
    import torch

    from tasks import bundle
    from tasks.network import folded

    engine = _opened(options)
    dtype = getattr(torch, engine.precision)
    network = folded(bundle.network_of(engine.model)).requires_grad_(False)
    network = network.to(engine.device, dtype, memory_format=torch.channels_last)
    side = engine.decoder.side
    images = torch.rand(engine.batch_size, 3, side, side, device=engine.device).to(
        dtype, memory_format=torch.channels_last
    )
    return _forwarding(engine, lambda _: network(images))


def _forwarding(engine, forward):
    """Rounds of forward passes of one batch in memory: on a CPU a stream a core."""
    import torch

    shape = (engine.batch_size, engine.decoder.side, engine.decoder.side, 3)
    pixels = torch.randint(0, 255, shape, dtype=torch.uint8, device=engine.device)
    cpu = engine.device.type == "cpu"
    count = 64 if cpu else 400

    def once(_):
        with torch.inference_mode():
            return forward(pixels)

    def run():
        if cpu:
            with concurrent.futures.ThreadPoolExecutor(
                engine.workers, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                list(pool.map(once, range(count)))
        else:
            for number in range(count):
                once(number)
            torch.cuda.synchronize()
        return [], count * engine.batch_size

    run()
    return run


def _decode(options, photos):
    engine = _opened(options)
    size = engine.batch_size
    batches = [photos[at : at + size] for at in range(0, len(photos), size)]
    pool = multiprocessing.get_context("fork").Pool(os.cpu_count())

    def run():
        jobs = [(engine.decoder, batch) for batch in batches]
        return [], sum(pool.imap_unordered(_decoded, jobs))

    run()
    return run


def _decoded(job) -> int:
    from tasks.storage import LocalPlace

    decoder, names = job
    return len(decoder(LocalPlace(Path("/")), [name.lstrip("/") for name in names]).rows)


def _write(options, rounds: dict[str, list[dict]], photos: int) -> None:
    rates = {
        side: statistics.median(result["rate"] for result in results)
        for side, results in rounds.items()
    }
    agreement = {}
    if "get_preds" in rounds:
        reference = rounds["get_preds"][0]["labels"]
        for side in ("plain", "timm", "flow", "engine"):
            if side in rounds:
                labels = rounds[side][0]["labels"][: len(reference)]
                agreement[side] = sum(map(str.__eq__, labels, reference)) / len(labels)
    model = _model(options)
    result = {
        "hardware": hardware(),
        "versions": versions(),
        "model": f"{model.info['architecture']} at {model.info['image_size']} pixels",
        "precision": _opened(options).precision,
        "photos": photos,
        "images_of_each_side": {side: results[0]["count"] for side, results in rounds.items()},
        "images_per_second": {side: round(rate, 1) for side, rate in rates.items()},
        "rounds": {
            side: [round(result["rate"], 1) for result in results]
            for side, results in rounds.items()
        },
        "labels_as_get_preds": {side: round(share, 5) for side, share in agreement.items()},
        "ratios": _ratios(rounds),
    }
    written(result, options.results, "-".join(filter(None, ("score", options.note))))


def written(result: dict, results: str, name: str) -> None:
    """Print a result and keep it, its date first."""
    result = {"date": datetime.date.today().isoformat(), **result}
    text = json.dumps(result, indent=2)
    print(text)
    target = Path(results)
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{result['date']}-{name}.json").write_text(text + "\n")


def _ratios(rounds: dict[str, list[dict]]) -> dict[str, float]:
    """Medians of the ratios of sides that ran in the same round."""

    def ratio(one: str, other: str) -> float | None:
        if one not in rounds or other not in rounds:
            return None
        pairs = zip(rounds[one], rounds[other], strict=True)
        return round(statistics.median(a["rate"] / b["rate"] for a, b in pairs), 3)

    wanted = [("flow", side) for side in SIDES if side not in ("flow",)]
    pairs = {f"{one}/{other}": ratio(one, other) for one, other in wanted}
    return {name: value for name, value in pairs.items() if value is not None}


def versions() -> dict[str, str]:
    """Python and what the sides are made of."""
    from importlib import metadata

    names = ("torch", "torchvision", "fastai", "timm", "prefect", "pillow")
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def hardware() -> dict:
    """The machine, as far as a rate depends on it."""
    import torch

    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bool(torch.cpu._is_avx512_bf16_supported()),
        "gpu": gpu,
        "disk": shutil.disk_usage(".").total >> 30,
    }


if __name__ == "__main__":
    main()
