"""Which way up an image is, from the one place where viewers of its format look for it."""

from PIL import ExifTags, Image

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
