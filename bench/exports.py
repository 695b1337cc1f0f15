"""Measure which architectures export to ONNX, and the difference from torch.

    python bench/exports.py                     # all of torchvision, and twenty of timm
    python bench/exports.py resnet34 vit_b_16

Each network has random weights and fastai's head for three classes, at 224 pixels. OpenVINO runs
its ONNX model in float32 on four images of noise with different grain sizes. `difference` is the
largest difference from torch; `spread` is the range of torch's probabilities over the four images.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from record import hardware, versions, write_result

TIMM = (
    *("resnet26d", "resnetv2_50", "resnext50_32x4d", "seresnet50", "ecaresnet26t", "regnety_008"),
    *("efficientnet_b0", "tf_efficientnet_lite0", "tf_efficientnetv2_s", "mobilenetv3_large_100"),
    *("mobilenetv4_conv_small", "convnext_tiny", "convnextv2_atto", "vit_tiny_patch16_224"),
    *("deit3_small_patch16_224", "swin_tiny_patch4_window7_224", "maxvit_tiny_tf_224"),
    *("mixer_s32_224", "levit_128s", "efficientformerv2_s0"),
)
SIDE = 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures; by default all")
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_export(options.names[0])))
        return
    table = {name: _in_subprocess(name) for name in options.names or _all()}
    exported = [name for name, row in table.items() if "why" not in row]
    result = {
        "hardware": hardware(),
        "versions": versions("torch", "torchvision", "timm", "onnx", "onnxscript", "openvino"),
        "exported": len(exported),
        "not": {name: row["why"] for name, row in table.items() if "why" in row},
        "architectures": table,
    }
    write_result(result, options.results, "exports")


def _all() -> list[str]:
    from visionflows.models.network import import_torchvision_models

    models = import_torchvision_models()
    return [*models.list_models(module=models), *TIMM]


def _in_subprocess(name: str) -> dict:
    """Export one in a subprocess: some take gigabytes, and a crash must not stop the others."""
    done = subprocess.run(
        [sys.executable, __file__, name, "--one"], stdout=subprocess.PIPE, text=True, check=False
    )
    lines = done.stdout.splitlines()
    row = json.loads(lines[-1]) if lines else {"why": f"its process ended with {done.returncode}"}
    print(f"{name:28} {row}", flush=True)
    return row


def _export(name: str) -> dict:
    import torch

    from visionflows.errors import SettingsError
    from visionflows.inference.openvino import openvino_core
    from visionflows.models.network import build, check_trainable
    from visionflows.models.schema import ModelInfo, Normalise
    from visionflows.training.onnx_graph import NotExportable, onnx_bytes

    normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    info = ModelInfo.model_construct(image_size=SIDE, normalise=normalise)
    try:
        check_trainable(name, SIDE)
    except SettingsError as error:
        return {"why": str(error)}
    torch.manual_seed(0)
    pixels = _noise_images()
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    network = _with_batch_norm(build(name, 3, SIDE), images)
    began = time.perf_counter()
    try:
        data = onnx_bytes(network, info)
    except NotExportable as error:
        return {"why": str(error)}
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        expected = network(images).softmax(1).numpy()
    compiled = openvino_core().compile_model(
        openvino_core().read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    difference = float(np.abs(compiled({0: pixels})[0] - expected).max())
    spread = float(np.ptp(expected, axis=0).max())
    megabytes = round(len(data) / 1e6, 1)
    return {
        "seconds": round(seconds, 1),
        "MB": megabytes,
        "difference": difference,
        "spread": spread,
    }


def _noise_images() -> np.ndarray:
    """Noise of four grain sizes, as uint8 (4, side, side, 3)."""
    draws = np.random.default_rng(0)
    coarse = [draws.integers(0, 256, (SIDE // grain, SIDE // grain, 3)) for grain in (1, 4, 16, 56)]
    images = [np.kron(small, np.ones((SIDE // len(small),) * 2 + (1,), int)) for small in coarse]
    return np.stack(images).astype(np.uint8)


def _with_batch_norm(network, images):
    """Set the batch norm statistics to those of the images; random weights vanish otherwise."""
    import torch

    for part in network.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.momentum = None  # the mean of all batches
    with torch.no_grad():
        network.train()(images)
    return network.eval()


if __name__ == "__main__":
    main()
