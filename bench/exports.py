"""Which architectures become a model.onnx, and how far it is from torch: a table.

    python bench/exports.py                     # all of torchvision's, and twenty of timm's
    python bench/exports.py resnet34 vit_b_16

Each has a body of random weights and fastai's head for three classes, at 224 pixels. Its ONNX is
run by OpenVINO in float32 on four images: noise of a few sizes of grain, so that they are unlike.
`spread` is how far apart torch's own answers for them are: what a difference is to be held against.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from record import hardware, versions, written

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
    parser.add_argument("names", nargs="*", help="architectures; all of them by default")
    parser.add_argument("--results", default="bench/results")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_told(options.names[0])))
        return
    table = {name: _alone(name) for name in options.names or _all()}
    exported = [name for name, told in table.items() if "why" not in told]
    told = {
        "hardware": hardware(),
        "versions": versions("torch", "torchvision", "timm", "onnx", "onnxscript", "openvino"),
        "exported": len(exported),
        "not": {name: told["why"] for name, told in table.items() if "why" in told},
        "architectures": table,
    }
    written(told, options.results, "exports")


def _all() -> list[str]:
    from visionflows.models.network import import_torchvision_models

    models = import_torchvision_models()
    return [*models.list_models(module=models), *TIMM]


def _alone(name: str) -> dict:
    """One in a process of its own: some take gigabytes, and none is to stop the others."""
    done = subprocess.run(
        [sys.executable, __file__, name, "--one"], stdout=subprocess.PIPE, text=True, check=False
    )
    lines = done.stdout.splitlines()
    told = json.loads(lines[-1]) if lines else {"why": f"its process ended with {done.returncode}"}
    print(f"{name:28} {told}", flush=True)
    return told


def _told(name: str) -> dict:
    import torch

    from visionflows.errors import SettingsError
    from visionflows.inference.openvino import openvino_core
    from visionflows.models.network import build, check_trainable
    from visionflows.models.schema import ModelInfo, Normalise
    from visionflows.training.evidence.onnx_export import NotExportable, onnx_bytes

    normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    info = ModelInfo.model_construct(image_size=SIDE, normalise=normalise)
    try:
        check_trainable(name, SIDE)
    except SettingsError as error:
        return {"why": str(error)}
    torch.manual_seed(0)
    pixels = _grains()
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    network = _settled(build(name, 3, SIDE), images)
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
    apart = float(np.abs(compiled({0: pixels})[0] - expected).max())
    spread = float(np.ptp(expected, axis=0).max())
    megabytes = round(len(data) / 1e6, 1)
    return {"seconds": round(seconds, 1), "MB": megabytes, "difference": apart, "spread": spread}


def _grains() -> np.ndarray:
    """uint8 (4, side, side, 3)."""
    draws = np.random.default_rng(0)
    coarse = [draws.integers(0, 256, (SIDE // of, SIDE // of, 3)) for of in (1, 4, 16, 56)]
    images = [np.kron(one, np.ones((SIDE // len(one),) * 2 + (1,), int)) for one in coarse]
    return np.stack(images).astype(np.uint8)


def _settled(network, images):
    """With what batch norms have seen of the images: of random weights, else nothing is left."""
    import torch

    for part in network.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.momentum = None  # the mean of all that it sees
    with torch.no_grad():
        network.train()(images)
    return network.eval()


if __name__ == "__main__":
    main()
