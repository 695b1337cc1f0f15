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
    flow        visionflows, the score flow: Prefect, loading the model, CSV and report included
    engine      visionflows without them, its model loaded, to the CSV
    full        the same with --decode full: large photos are decoded whole
    network     the limit: this engine's network alone, on pixels in memory, a stream a core
    decode      the limit: decoding and resizing alone, all cores
    eager       the network alone by torch at the same precision, batch norm folded, channels_last
    onnxruntime the network alone by ONNX Runtime, in float32
    openvino    the network alone by OpenVINO as its own guide has it
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import networks
import sides
from record import hardware, versions, written

SIDES = ("predict", "get_preds", "plain", "timm", "flow", "engine", "full")
SIDES += ("network", "decode", "eager", "onnxruntime", "openvino")


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
    parser.add_argument("--decode", default="auto", help="of flow and engine: auto, full, scaled")
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
    run = (getattr(sides, side, None) or getattr(networks, side))(options, photos)
    pipe.send({})
    while pipe.recv() == "run":
        began = time.perf_counter()
        labels, count, *own = run()
        seconds = own[0] if own else time.perf_counter() - began
        pipe.send({"rate": count / seconds, "count": count, "labels": labels})


def _write(options, rounds: dict[str, list[dict]], photos: int) -> None:
    rates = {
        side: statistics.median(result["rate"] for result in results)
        for side, results in rounds.items()
    }
    agreement = {}
    if "get_preds" in rounds:
        reference = rounds["get_preds"][0]["labels"]
        for side in ("plain", "timm", "flow", "engine", "full"):
            if side in rounds:
                labels = rounds[side][0]["labels"][: len(reference)]
                agreement[side] = sum(map(str.__eq__, labels, reference)) / len(labels)
    model = sides.model_of(options)
    result = {
        "hardware": hardware(),
        "versions": versions(),
        "model": f"{model.info.architecture} at {model.info.image_size} pixels",
        "precision": sides.engine_of(options).precision,
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


def _ratios(rounds: dict[str, list[dict]]) -> dict[str, float]:
    """Medians of the ratios of sides that ran in the same round."""

    def ratio(one: str, other: str) -> float | None:
        if one not in rounds or other not in rounds:
            return None
        pairs = zip(rounds[one], rounds[other], strict=True)
        return round(statistics.median(a["rate"] / b["rate"] for a, b in pairs), 3)

    wanted = [("flow", side) for side in SIDES if side != "flow"]
    wanted += [("engine", side) for side in ("get_preds", "full", "network")]
    pairs = {f"{one}/{other}": ratio(one, other) for one, other in wanted}
    if {"engine", "network", "decode"} <= rounds.keys():
        pairs["engine/limit"] = _of_limit(rounds)
    return {name: value for name, value in pairs.items() if value is not None}


def _of_limit(rounds: dict[str, list[dict]]) -> float:
    """The engine's rate over what network and decoding allow.

    A core does one after the other: 1 / (1/network + 1/decode). Beside a GPU the slower decides.
    """
    turns = zip(*(rounds[side] for side in ("engine", "network", "decode")), strict=True)
    gpu, of_limit = bool(hardware()["gpu"]), []
    for turn in turns:
        mine, network, decode = (side["rate"] for side in turn)
        limit = min(network, decode) if gpu else 1 / (1 / network + 1 / decode)
        of_limit.append(mine / limit)
    return round(statistics.median(of_limit), 3)


if __name__ == "__main__":
    main()
