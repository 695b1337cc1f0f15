"""Which files are pictures: told by their content, and by no program that a file could start."""

import io
import os
import struct
import zlib

import pytest
from conftest import encoded, picture
from image_files import png, refused
from PIL import Image

# The filter of images.open is out of force inside pytest, which sets its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.mark.parametrize(
    "text", [b"hello\n", b"<svg/>", b"\0" * 1000, b"%PDF-1.7\n", b"name,label\n"]
)
def test_what_is_no_image_is_refused(tmp_path, text):
    (tmp_path / "text.jpg").write_bytes(text)
    expected = ("unreadable", "not an image in a format that can be read")
    assert refused(tmp_path / "text.jpg") == expected


def test_postscript_is_refused_without_a_program_being_run(tmp_path, monkeypatch):
    """Pillow hands EPS, whatever the file is called, to the `gs` it finds."""
    program, ran = tmp_path / "gs", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    eps = encoded(picture(), "EPS")
    with Image.open(io.BytesIO(eps)) as image, pytest.raises(OSError, match="cannot identify"):
        image.load()
    assert ran.exists()  # as Pillow alone would …
    ran.unlink()
    assert refused(eps)[0] == "unreadable"
    assert not ran.exists()  # … and open_image does not


def test_a_huge_image_inside_an_icon_is_not_decoded():
    """An ICO tells at most 256×256, and Pillow decodes what it holds in order to open it."""
    inner = png(20_000, 20_000, zlib.compress(bytes(20_000 * 2_501), 1))
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inner), 22)
    assert refused(struct.pack("<HHH", 0, 1, 1) + entry + inner)[0] == "unreadable"
