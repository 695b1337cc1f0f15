"""Pillow's pixel limit and warnings of the process are not changed."""

import io
import os
import struct
import subprocess
import sys
import threading

import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image
from visionflows.images.pillow import no_pixel_limit
from visionflows.images.resize import resize_image


@pytest.fixture
def low_limit(monkeypatch) -> bytes:
    """An image over the process's Pillow limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    return encoded(picture(), "PNG")


def opened_by_others(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_importing_images_leaves_the_limit_as_it_is():
    code = (
        "from PIL import Image; import numpy, warnings\n"
        "before = Image.MAX_IMAGE_PIXELS, warnings.filters[:]\n"
        "import visionflows.images.open\n"
        "assert (Image.MAX_IMAGE_PIXELS, warnings.filters) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_thousands_of_damaged_tags_print_nothing_and_others_are_warned(tmp_path):
    entries = b"".join(struct.pack("<HHII", tag, 5, 8000, 100) for tag in range(1, 2000))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1999) + entries
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(picture(), "JPEG", exif=exif))
    code = (
        "import sys, warnings; from PIL import Image; from visionflows.images.open import *\n"
        "from visionflows.images.memory_limits import shared_memory_limits\n"
        "with open_decoded(sys.argv[1], shared_memory_limits(10**6)) as opened: opened.photo()\n"
        "print('ours', file=sys.stderr); before = warnings.filters[:]; open_image(sys.argv[1])\n"
        "assert warnings.filters == before; Image.open(sys.argv[1]).getexif()"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, _, others = done.stderr.partition("ours")
    assert not ours
    assert "Tag data larger than file" in others


def test_a_process_keeps_its_pixel_limit(low_limit):
    with pytest.raises(Image.DecompressionBombError):
        opened_by_others(low_limit)
    assert open_image(low_limit).size == (48, 40)
    with pytest.raises(Image.DecompressionBombError):
        opened_by_others(low_limit)


@pytest.mark.parametrize("format", ["WEBP", "GIF", "TIFF", "MPO"])
def test_the_limit_of_the_process_does_not_apply_to_frames_and_tiles(low_limit, format):
    data = encoded(picture(), format, save_all=True, append_images=[picture(1)])
    assert open_image(data).size == (48, 40)


@pytest.mark.parametrize("method", ["crop", "squish", "pad"])
def test_the_limit_of_the_process_does_not_apply_to_resizing(low_limit, method):
    assert resize_image(open_image(low_limit), 16, method).size == (16, 16)


def test_the_limit_comes_back_when_the_last_of_several_threads_is_done(low_limit):
    inside, done = threading.Barrier(3), threading.Event()

    def decode() -> None:
        with no_pixel_limit():
            inside.wait(10)
            done.wait(10)

    threads = [threading.Thread(target=decode) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with no_pixel_limit():
        assert opened_by_others(low_limit).size == (48, 40)
    assert Image.MAX_IMAGE_PIXELS is None
    done.set()
    for thread in threads:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_fork_has_the_limit_of_its_process(low_limit):
    with no_pixel_limit():
        child = os.fork()
        if not child:
            os._exit(Image.MAX_IMAGE_PIXELS != 100)
        assert os.waitpid(child, 0)[1] == 0
    assert Image.MAX_IMAGE_PIXELS == 100


def test_max_pixels_is_checked_before_an_image_is_decoded():
    with pytest.raises(BadImage, match="48×40 pixels, more than the limit of 100"):
        open_image(encoded(picture(), "WEBP"), max_pixels=100)


def test_scikit_learn_runs_after_an_image_was_opened():
    """It copies the warning filters to its threads."""
    from sklearn.utils.parallel import Parallel, delayed

    open_image(encoded(picture(1), "PNG"))
    assert Parallel()([delayed(abs)(-1)]) == [1]
