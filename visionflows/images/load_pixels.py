"""An opened image's pixels as its format means them, and which way up they are."""

import io

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import COLORMAP, TiffImageFile

from visionflows.images.to_rgb import strips

# Pillow's raw mode of a PNG: the factor from its own grey values, as in tRNS, to 8 bits.
_FACTORS = {"1": 255, "L;2": 85, "L;4": 17}
_DEEP = "RGB;16B"  # 16 bits a channel, of which Pillow keeps the first 8
_UNSURE_ALPHA = ("BMP", "DIB", "TGA")  # whose fourth byte is often unused, and 0
_TRANSPOSES: dict[object, Image.Transpose] = {  # EXIF orientation: what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS_SIDES = tuple(_TRANSPOSES[orientation] for orientation in (5, 6, 7, 8))


def load_pixels(file: ImageFile, data: bytes) -> Image.Image:
    """Decode an opened file; `data` is its content. The image is the file itself if it can be.

    - PNG: the transparent colour of tRNS, which Pillow does not scale to 8 bits as the pixels.
    - TIFF: a palette whose values are all below 256 has values of 8 bits, as libtiff says.
    - GIF: what the first frame does not cover is transparent.
    - BMP and TGA: an alpha channel that is 0 everywhere is none.
    """
    key = _deep_transparent_color(file)
    if isinstance(file, TiffImageFile) and file.mode in ("P", "PA"):
        values = file.tag_v2[COLORMAP]
        if file.palette and max(values) < 256:
            file.palette.palette = bytes(values)
    extent = file.tile[0][1] if isinstance(file, GifImageFile) and file.tile else None
    file.load()
    if key:
        _clear_deep_color(file, data, key)
    if extent and extent != (0, 0, *file.size):
        screen = Image.new("RGBA", file.size)
        screen.paste(file.crop(extent).convert("RGBA"), extent)
        return screen
    if file.format in _UNSURE_ALPHA and file.mode == "RGBA" and file.getextrema()[-1] == (0, 0):
        return file.convert("RGB")
    return file


def _deep_transparent_color(file: ImageFile) -> tuple[int, ...]:
    """The transparent colour of 16 bits a channel, removed from the image; else empty.

    A transparent grey of 1, 2 or 4 bits is scaled to 8 bits, in place.
    """
    value = file.info.get("transparency")
    if not isinstance(file, PngImagePlugin.PngImageFile) or not file.tile:
        return ()
    raw_mode = str(file.tile[0].args)
    if isinstance(value, int):
        file.info["transparency"] = value * _FACTORS.get(raw_mode, 1)
    is_deep = isinstance(value, tuple) and raw_mode == _DEEP
    return file.info.pop("transparency") if is_deep else ()


def _clear_deep_color(file: Image.Image, data: bytes, key: tuple[int, ...]) -> None:
    """Make the pixels of a colour of 16 bits a channel white, in place.

    Their second bytes are read by decoding the file again, as if in the other byte order.
    """
    with Image.open(io.BytesIO(data), formats=("PNG",)) as second:
        second.tile = [second.tile[0]._replace(args="RGB;16L")]
        second.load()
        high, low = np.array(key) >> 8, np.array(key) & 255
        whole = (0, 0, *file.size)
        for (top, one), (_, other) in zip(strips(file, whole), strips(second, whole), strict=True):
            is_key = (np.asarray(one) == high) & (np.asarray(other) == low)
            mask = Image.fromarray(is_key.all(-1))
            file.paste("white", (0, top, file.width, top + one.height), mask)


def upright_transpose(image: Image.Image) -> Image.Transpose | None:
    """What turns a decoded image upright; None where it is upright or its EXIF is damaged.

    In JPEG, WebP and PNG (its chunk eXIf) the EXIF says it. For AVIF, Pillow has put irot and imir
    into the EXIF; libheif, and Pillow for TIFF, have turned the pixels already. Pillow's getexif
    would also look into XMP, and into ImageMagick's text of a PNG.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return _TRANSPOSES.get(exif.get(ExifTags.Base.Orientation))
    except SyntaxError:  # Pillow's error for an EXIF block without its header
        return None
