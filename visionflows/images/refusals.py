"""Why a file of a known format cannot be decoded here, in words that its owner knows."""

from PIL import UnidentifiedImageError

from visionflows.images import formats, tiff

MAX_SEGMENTS = 1000  # of a JPEG, before its frame
# Frames of a JPEG by their markers (ITU-T T.81, Annex B; T.87): what libjpeg does not decode.
_FRAMES = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical JPEG"),
    0xF7: "JPEG-LS",
}
_BASELINE = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_RUN_LENGTH_TGA = (9, 10, 11)  # image types


def refusal(data: bytes, format: formats.FileFormat | None, error: Exception | None) -> str:
    """The reason for a file that no decoder takes; empty if only the decoder's error is known."""
    name = ""
    if format is formats.JPEG:
        name = _jpeg(data)
    elif format is formats.TIFF:
        name = tiff.old_jpeg(data)
    elif "bitfields" in str(error):  # Pillow's word for them
        name = "BMP with unusual masks of its channels"
    elif format is None and not isinstance(error, UnidentifiedImageError):
        # Pillow took it for a TGA, which has no signature.
        name = "TGA with runs across lines, or damaged" if data[2] in _RUN_LENGTH_TGA else ""
    return f"{name}: not decoded here; save it as PNG" if name else ""


def _jpeg(data: bytes) -> str:
    """The kind of a JPEG, if libjpeg has no decoder of it."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        head = data[at : at + 5]
        if len(head) < 5 or head[0] != 0xFF:
            break
        if head[1] in _FRAMES:
            return _FRAMES[head[1]]
        if head[1] in _BASELINE:
            return "" if head[4] == 8 else f"{head[4]}-bit JPEG"
        at += 1 if head[1] == 0xFF else 2 + max(int.from_bytes(head[2:4]), 2)
    return ""
