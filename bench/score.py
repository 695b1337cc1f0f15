"""Compare the scoring speed of visionflows, fastai, peers, and the limit of the hardware.

    make bench BENCH="--model pets --photos inbox"
    python bench/score.py --model pets --store store --photos inbox --rounds 3

Every side scores the same photos with the same weights, from the folder to rows in memory (flow and
engine: to the CSV). Each side is a process that loads everything first. Then the sides take turns,
so that a slow minute of the machine affects all of them. Results have medians of the rates and of
their ratios, with versions and hardware: bench/results/.

    predict     fastai, learn.predict in a loop
    get_preds   fastai, learn.get_preds(learn.dls.test_dl(files)), its defaults
    plain       torchvision and a DataLoader, written by hand
    timm        timm's inference.py: its loader and defaults
    flow        visionflows, the score flow: Prefect, loading the model, CSV and report included
    engine      visionflows without Prefect, the model already loaded, to the CSV
    full        the same with --decode full: large photos are decoded at full size
    network     the limit: only the network, on pixels in memory, one stream a core
    decode      the limit: only decoding and resizing, on all cores
    eager       only the network, in torch at the same precision, batch norm folded, channels_last
    onnxruntime only the network, in ONNX Runtime, float32
    openvino    only the network, in OpenVINO as its guide recommends
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
from record import hardware, versions, write_result

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
    parser.add_argument(
        "--decode", default="auto", help="decode option of flow and engine: auto, full, scaled"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument(
        "--few", type=int, default=100, help="number of photos for the side `predict`"
    )
    parser.add_argument(
        "--some", type=int, default=100_000, help="number of photos for fastai and peers"
    )
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--note", default="", help="suffix of the result's file name")
    return parser.parse_args()


class _Worker:
    """A side in a subprocess: loaded once, run on request."""

    def __init__(self, context, side: str, options, photos: list[str]):
        self.side = side
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=_serve, args=(child_pipe, side, options, photos))
        self.process.start()
        self._receive()  # wait until it is ready

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
            sys.exit(f"{self.side}: the process ended; see above")


def _serve(pipe, side: str, options, photos: list[str]) -> None:
    # DataLoaders fork, as in a script; a spawned process would pass on `spawn`.
    multiprocessing.set_start_method("fork", force=True)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    run = (getattr(sides, side, None) or getattr(networks, side))(options, photos)
    pipe.send({})
    while pipe.recv() == "run":
        began = time.perf_counter()
        labels, count, *measured = run()
        seconds = measured[0] if measured else time.perf_counter() - began
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
    write_result(result, options.results, "-".join(filter(None, ("score", options.note))))


def _ratios(rounds: dict[str, list[dict]]) -> dict[str, float]:
    """Medians of the ratios of sides that ran in the same round."""

    def ratio(side: str, other: str) -> float | None:
        if side not in rounds or other not in rounds:
            return None
        pairs = zip(rounds[side], rounds[other], strict=True)
        return round(statistics.median(a["rate"] / b["rate"] for a, b in pairs), 3)

    wanted = [("flow", side) for side in SIDES if side != "flow"]
    wanted += [("engine", side) for side in ("get_preds", "full", "network")]
    pairs = {f"{side}/{other}": ratio(side, other) for side, other in wanted}
    if {"engine", "network", "decode"} <= rounds.keys():
        pairs["engine/limit"] = _of_limit(rounds)
    return {name: value for name, value in pairs.items() if value is not None}


def _of_limit(rounds: dict[str, list[dict]]) -> float:
    """The engine's rate divided by the limit of network and decoding.

    On a CPU the limit is 1 / (1/network + 1/decode), with a GPU the slower of the two.
    """
    turns = zip(*(rounds[side] for side in ("engine", "network", "decode")), strict=True)
    gpu, ratios = bool(hardware()["gpu"]), []
    for turn in turns:
        engine, network, decode = (side["rate"] for side in turn)
        limit = min(network, decode) if gpu else 1 / (1 / network + 1 / decode)
        ratios.append(engine / limit)
    return round(statistics.median(ratios), 3)


if __name__ == "__main__":
    main()
