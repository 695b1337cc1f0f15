"""What others in the process have of Pillow stays theirs: bomb limit, warnings, libtiff's lines."""

import io
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from conftest import encoded, picture
from PIL import Image

from visionflows.images.image_status import BadImage
from visionflows.images.open import open_image
from visionflows.images.pillow import ours
from visionflows.images.resize import resize_image


@pytest.fixture
def low_limit(monkeypatch) -> bytes:
    """A picture that Pillow's limit, as the process has it, refuses."""
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


def test_a_process_keeps_its_limit_and_we_have_ours(low_limit):
    with pytest.raises(Image.DecompressionBombError):
        opened_by_others(low_limit)
    assert open_image(low_limit).size == (48, 40)
    with pytest.raises(Image.DecompressionBombError):
        opened_by_others(low_limit)


@pytest.mark.parametrize("format", ["WEBP", "GIF", "TIFF", "MPO"])
def test_the_limit_of_the_process_says_nothing_of_our_frames_and_tiles(low_limit, format):
    data = encoded(picture(), format, save_all=True, append_images=[picture(1)])
    assert open_image(data).size == (48, 40)


@pytest.mark.parametrize("method", ["crop", "squish", "pad"])
def test_the_limit_of_the_process_says_nothing_of_resizing(low_limit, method):
    assert resize_image(open_image(low_limit), 16, method).size == (16, 16)


def test_another_thread_keeps_the_limit_while_one_of_ours_decodes(low_limit):
    inside, done, told = threading.Event(), threading.Event(), []

    def decode() -> None:
        with ours(10_000):
            inside.set()
            done.wait(10)
            told.append(opened_by_others(low_limit).size)

    thread = threading.Thread(target=decode)
    thread.start()
    inside.wait(10)
    with pytest.raises(Image.DecompressionBombError):
        opened_by_others(low_limit)
    done.set()
    thread.join()
    assert told == [(48, 40)]


def test_our_limit_is_told_as_a_row_from_inside_pillow():
    with ours(100), pytest.raises(BadImage, match="48×40 pixels, more than the limit of 100"):
        opened_by_others(encoded(picture(), "WEBP"))


BROKEN_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\xff\0\0\0\x06\0\0\0"


def test_warnings_are_heard_by_others_and_not_by_us():
    data = encoded(picture(), "JPEG", exif=BROKEN_EXIF)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(data).size == (48, 40)
        with pytest.raises(UserWarning, match="Tag data larger"):
            opened_by_others(data).getexif()


def test_libtiffs_lines_are_heard_by_others_and_not_by_us(capfd):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    data = bytearray(encoded(noise, "TIFF", compression="tiff_lzw"))
    data[100:400] = b"\x55" * 300

    def ours_too() -> None:
        with pytest.raises(BadImage):
            open_image(bytes(data))

    threads = [threading.Thread(target=ours_too) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err == ""
    with pytest.raises(OSError, match="decoder error"):
        opened_by_others(bytes(data)).load()
    assert capfd.readouterr().err.count("Using code not yet in table") == 1


def test_scikit_learn_runs_after_an_image_was_opened():
    """It copies the filters of warnings to its threads, and asks each for its pattern."""
    from sklearn.utils.parallel import Parallel, delayed

    open_image(encoded(picture(1), "PNG"))
    assert Parallel()([delayed(abs)(-1)]) == [1]
