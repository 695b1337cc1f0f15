"""Which files are pictures: by their names when a place is listed, by their content when opened.

from visionflows.images.formats import is_image_name
is_image_name("IMG_0001.JPG")                    # True
"""

# What counts as a picture, in any case. Pillow opens most of them; one that it cannot
# (HEIC without its plugin) still gets its row, which says so.
IMAGE_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("avif", "bmp", "dib", "gif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jpeg"),
        *("jpg", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
# Formats are told by content, so a file of any name reaches each of these decoders. Not among
# them: EPS, for which Pillow starts Ghostscript on the file, and ICO, which it decodes before
# its size can be asked.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000"),
    "TGA",  # last: it has no signature, and tries whatever is left
)


def is_image_name(name: str) -> bool:
    """Whether a file name ends as a picture's does, in any case."""
    return name.lower().endswith(IMAGE_SUFFIXES)
