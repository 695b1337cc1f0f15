"""The files of a small model, and a bucket that holds them under any name."""

from conftest import encoded, picture
from model_infos import model_info

from visionflows.hashing import sha256_of
from visionflows.models.artifact import VALIDATION


class Bucket:
    """Files by key with any name, like a model in a bucket."""

    is_local = False

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
    """A small model with random weights."""
    from safetensors.torch import save

    from visionflows.models.network import build

    files = {
        "weights.safetensors": save(build("test_resnet", 2, 32).state_dict()),
        "files.csv": b"path,label,is_valid,sha256\r\n",
        VALIDATION: b"",
        "selfcheck/0.png": encoded(picture(1), "PNG"),
        "selfcheck/expected.csv": b"image,a,b\n0.png,0.25,0.75\n",
    }
    digests = {name: sha256_of(data) for name, data in files.items()}
    info = model_info(name="pets", version="20260101", architecture="test_resnet", files=digests)
    return files | {"model.json": info.text()}
