"""What many tests need: images of every kind, made here, and the real photos where they are."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def picture(seed: int = 0, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """A picture with structure: smooth colours, and an edge that tells its orientation."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    phase = rng.uniform(0, 6.28, 3)
    channels = [127 + 90 * np.sin(x / 7 + phase[c]) * np.cos(y / 9 + phase[c]) for c in range(3)]
    array = np.stack(channels, -1).clip(0, 255).astype(np.uint8)
    array[: max(height // 4, 1)] = rng.integers(0, 255, 3)
    return Image.fromarray(array).convert(mode)


def encoded(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    """The bytes of a file that holds `image`."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos; tests that need it skip where it is not beside the clone."""
    if not (SHARED_DATA / "cats-dogs.tgz").exists():
        pytest.skip("the real photos (../shared/data) are not beside this clone")
    return SHARED_DATA
