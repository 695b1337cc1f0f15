"""Transparent parts of an image, laid on white."""

from PIL import Image, PngImagePlugin

# Pillow's raw mode of a PNG: the factor from its own grey values, as in tRNS, to 8 bits.
_FACTORS = {"1": 255, "L;2": 85, "L;4": 17}


def on_white(image: Image.Image) -> Image.Image:
    """The image in mode RGB, laid on white."""
    if image.mode == "La":
        image = image.convert("LA")
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    background = Image.new("RGB", image.size, "white")
    background.paste(image, mask=image)
    return background


def scale_transparent_color(image: Image.Image) -> None:
    """Scale the transparent colour of an opened PNG to 8 bits, in place.

    Pillow scales pixels of 1, 2, 4 and 16 bits to 8, but not the colour that tRNS names.
    """
    value = image.info.get("transparency")
    if not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return
    rawmode = image.tile[0].args
    if rawmode == "RGB;16B" and isinstance(value, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in value)
    elif isinstance(value, int) and rawmode in _FACTORS:
        image.info["transparency"] = value * _FACTORS[str(rawmode)]
