"""What is transparent in a picture, laid on white, as a viewer shows it on a page.

from visionflows.images.transparency import on_white
on_white(Image.open("logo.png"))
"""

from PIL import Image, PngImagePlugin

# What a PNG's own depth, in Pillow's words for it, does to a grey value: tRNS is in that depth.
_TIMES = {"1": 255, "L;2": 85, "L;4": 17}


def on_white(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, its transparent parts as white as they are transparent."""
    if image.mode == "La":
        image = image.convert("LA")
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image)
    return ground


def in_eight_bits(image: Image.Image) -> None:
    """Let the transparent colour of an opened PNG be told as its pixels will be.

    Pillow gives pixels of 1, 2 and 4 bits, and colours of 16, as 8 bits, and the colour as it
    stands in the file.
    """
    value = image.info.get("transparency")
    if not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return
    rawmode = image.tile[0].args
    if rawmode == "RGB;16B" and isinstance(value, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in value)
    elif isinstance(value, int) and rawmode in _TIMES:
        image.info["transparency"] = value * _TIMES[str(rawmode)]
