"""Sides of bench/score.py that only run a network, on pixels in memory: the upper limit.

bench/score.py describes each side. bench/sides.py has the sides that read files.
"""

import concurrent.futures

from sides import engine_of, model_of


def network(options, photos):
    engine = engine_of(options)
    if engine.info.backend.device.startswith("cuda"):
        return _on_gpu(engine)
    return _forward_passes(engine, engine.probabilities)


def _on_gpu(engine):
    import torch

    pixels, count = torch.from_numpy(_noise(engine)).cuda(), 400

    def run():
        with torch.inference_mode():
            for _ in range(count):
                engine.network.forward(pixels)
        torch.cuda.synchronize()
        return [], count * len(pixels)

    run()
    return run


def eager(options, photos):
    """The same network in torch, batch norm folded, channels_last."""
    import torch

    from visionflows.inference.torch_network import TorchNetwork

    engine = engine_of(options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = TorchNetwork(engine.model, device, engine.precision, engine.batch_size)
    return _forward_passes(engine, lambda pixels: network.predict(pixels).probabilities)


def onnxruntime(options, photos):
    import onnxruntime

    model = model_of(options)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.files.read("model.onnx"), session_options)
    engine = engine_of(options)
    return _forward_passes(
        engine, lambda pixels: session.run(["probabilities"], {"pixels": pixels})
    )


def openvino(options, photos):
    """OpenVINO as its guide recommends: throughput hint, default precision and streams."""
    from visionflows.inference.openvino import import_openvino, openvino_core

    engine = engine_of(options)
    side = engine.decoder.side
    model = openvino_core().read_model(engine.model.files.read("model.onnx"))
    model.reshape([engine.batch_size, side, side, 3])
    queue = import_openvino().AsyncInferQueue(
        openvino_core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    )
    pixels = _noise(engine)

    def run():
        for _ in range(64):
            queue.start_async({0: pixels})
        queue.wait_all()
        return [], 64 * len(pixels)

    run()
    return run


def _noise(engine):
    import numpy as np

    side = engine.decoder.side
    shape = (engine.batch_size, side, side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _forward_passes(engine, forward):
    """Forward passes of one batch in memory; on a CPU, one stream a core."""
    import torch

    pixels, count = _noise(engine), 64
    streams = engine.workers if engine.info.backend.device.startswith("cpu") else 1

    def run():
        with concurrent.futures.ThreadPoolExecutor(
            streams, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            list(pool.map(lambda _: forward(pixels), range(count)))
        return [], count * len(pixels)

    run()
    return run
