"""The files of a small model, and a bucket that holds them under any name."""

import json

from conftest import encoded, picture

from visionflows.hashing import sha256_of


class Bucket:
    """Files by key with any name, like a model in a bucket."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files

    def read(self, name: str) -> bytes:
        try:
            return self.files[name]
        except KeyError as error:
            raise FileNotFoundError(name) from error

    def exists(self, name: str) -> bool:
        return name in self.files

    def __str__(self) -> str:
        return "s3://lab/model"


def bundle_files() -> dict[str, bytes]:
    """A small model whose network is never run."""
    files = {
        "weights.safetensors": b"weights",
        "files.csv": b"path,label,is_valid,sha256\r\n",
        "selfcheck/0.png": encoded(picture(1), "PNG"),
        "selfcheck/expected.csv": b"image,a,b\n0.png,0.25,0.75\n",
    }
    info = {
        "schema_version": 1,
        "name": "pets",
        "version": "20260101",
        "architecture": "resnet18",
        "classes": ["a", "b"],
        "image_size": 32,
        "resize": "crop",
        "normalise": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
        "precision": {"agreement": {"auto": "float32", "why": "no evidence"}},
        "metrics": {"error_rate": 0.1, "by_class": [{"class": "a", "count": 1}]},
        "files": {name: sha256_of(data) for name, data in files.items()},
    }
    return files | {"model.json": json.dumps(info).encode()}
