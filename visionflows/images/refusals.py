"""Why a file of a known format cannot be decoded here, in words that its owner knows."""

from PIL import UnidentifiedImageError

from visionflows.images import formats, tiff

_RUN_LENGTH_TGA = (9, 10, 11)  # image types


def refusal(data: bytes, format: formats.FileFormat | None, error: Exception | None) -> str:
    """The reason for a file that no decoder takes; empty if only the decoder's error is known."""
    name = ""
    if format is formats.TIFF:
        name = tiff.old_jpeg(data)
    elif "bitfields" in str(error):  # Pillow's word for them
        name = "BMP with unusual masks of its channels"
    elif format is None and not isinstance(error, UnidentifiedImageError):
        # Pillow took it for a TGA, which has no signature.
        name = "TGA with runs across lines, or damaged" if data[2] in _RUN_LENGTH_TGA else ""
    return f"{name}: not decoded here; save it as PNG" if name else ""
