"""The colour space that a file declares, and the conversion from it to sRGB.

Declared are ICC profiles (in every format for which Pillow reads them), gAMA and cHRM or cICP in a
PNG, and nclx in AVIF and HEIC. The latter become ICC profiles too, so that LittleCMS converts all.

An image is converted when it has been resized for the network, in training and in scoring: a
photo of 12 megapixels then takes 0.7 ms instead of 10 ms.
"""

import functools
import hashlib
import io
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 8 << 20  # those of printing presses have 3 MB
MAX_TRANSFORMS = 32  # kept by a process, up to 1 MB each
SAME = 2  # levels: a profile that changes no colour by more is one of sRGB, and not applied
# Signatures of ICC.1: the class, and the colour space that a Pillow mode has.
_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_RGB = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr")
_SPACES = {**dict.fromkeys(_GREY, b"GRAY"), **dict.fromkeys(_RGB, b"RGB "), "CMYK": b"CMYK"}
_INPUT_MODES = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}
_MAX_TAGS = 100  # LittleCMS reads no more
# Primaries of ITU-T H.273 by code: x and y of white, red, green and blue.
_SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_PRIMARIES = {
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # DCI-P3
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),  # Display P3
}
# Its transfer characteristics: an exponent, or a curve by name. All others are shown as sRGB.
_TRANSFERS: dict[int, float | str] = {4: 2.2, 5: 2.8, 8: 1.0, 16: "pq", 18: "hlg"}
_CURVE = 4096  # entries of a tone curve
_HDR_WHITE = 203.0  # cd/m² that are shown as white: ITU-R BT.2408
_CICP = re.compile(rb"\0\0\0\x04(cICP(.)(.)\0[\x00\x01])(.{4})", re.DOTALL)
_NCLX = re.compile(rb"\0\0\0\x13colrnclx\0(.)\0(.)", re.DOTALL)
_META_BYTES = 1 << 16  # of an AVIF or HEIC, in which its properties are
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

_KEY = "visionflows_profile"  # of Image.info
_transforms: dict[bytes, tuple[ImageCms.ImageCmsTransform | None]] = {}


def color_profile(image: Image.Image, data: bytes) -> bytes | None:
    """The ICC profile that an opened image needs to be shown; `data` is the file.

    None if the file declares no colour space, sRGB, or one that cannot be used: a damaged profile,
    or one of another kind of image.
    """
    profile = _declared_profile(image, data)
    if not isinstance(profile, bytes) or not 128 < len(profile) <= MAX_PROFILE_BYTES:
        return None
    is_made = profile is not image.info.get("icc_profile")  # of codes
    if not is_made and not _is_usable(profile, image.mode):
        return None
    return profile if _transform(profile) else None


def convert_cmyk(profile: bytes | None) -> Callable[[Image.Image], Image.Image] | None:
    """The function that makes sRGB of an image in CMYK; None without a profile of CMYK."""
    transform = _transform(profile) if profile else None
    return transform.apply if transform and transform.input_mode == "CMYK" else None


def attach_profile(image: Image.Image, profile: bytes | None) -> None:
    """Note at an RGB image what converts it. Pillow keeps it in crops, turned and resized ones."""
    image.info.pop(_KEY, None)
    if profile and profile[16:20] != b"CMYK":
        image.info[_KEY] = profile


def attached_profile(image: Image.Image) -> bytes | None:
    """The profile of an image whose colours are not converted yet."""
    return image.info.get(_KEY)


def convert_to_srgb(image: Image.Image, profile: bytes | None) -> None:
    """Convert an RGB image in place, if there is a profile; a grey one converts its brightness."""
    image.info.pop(_KEY, None)
    transform = _transform(profile) if profile else None
    if transform and transform.input_mode == "RGB":
        transform.apply_in_place(image)
    elif transform:
        image.paste(transform.apply(image.convert("L")))


def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """The transform of a profile, None if it needs none; those of the last profiles are kept."""
    digest = hashlib.sha256(profile).digest()
    if (kept := _transforms.get(digest)) is None:
        if len(_transforms) >= MAX_TRANSFORMS:
            _transforms.clear()
        kept = _transforms[digest] = (_build(profile, _INPUT_MODES[profile[16:20]]),)
    return kept[0]


def _is_usable(profile: bytes, mode: str) -> bool:
    """Whether a profile describes the kind of colours that an image of this mode has.

    A profile with multi-process elements (D2B0 …) is not used: they may repeat without limit.
    """
    end = 132 + 12 * min(int.from_bytes(profile[128:132]), _MAX_TAGS)
    is_safe = not any(profile[at : at + 3] == b"D2B" for at in range(132, end, 12))
    is_known = profile[12:16] in _CLASSES and profile[36:40] == b"acsp"
    return is_safe and is_known and profile[16:20] == _SPACES.get(mode)


def _build(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile; None if it is damaged, or changes hardly a colour."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, srgb, mode, "RGB")
    except (OSError, ValueError):  # LittleCMS refuses it; viewers then show the numbers as sRGB
        return None
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    colours = np.stack(np.meshgrid(*[levels] * len(mode)), -1).reshape(1, -1, len(mode))
    shown = transform.apply(Image.fromarray(colours if mode == "RGB" else colours[..., 0]))
    change = np.abs(np.asarray(shown).astype(int) - colours).max()
    return transform if change > SAME else None


def _declared_profile(image: Image.Image, data: bytes) -> bytes | None:
    """The ICC profile of a file, or one made of its codes. In a PNG, cICP overrides the others."""
    info, profile = image.info, image.info.get("icc_profile")
    if image.format == "PNG":
        code = _CICP.search(data, 8, max(data.find(b"IDAT"), 8))
        if code and zlib.crc32(code[1]) == int.from_bytes(code[4]):
            return _coded_profile(code[2][0], code[3][0])
        if not profile and "srgb" not in info and 0.1 <= info.get("gamma", 0) <= 10:
            # Programs write 1/2.2 (to 5 %, says libpng) where they mean sRGB.
            is_srgb = abs(info["gamma"] * 2.2 - 1) < 0.05
            transfer = "srgb" if is_srgb else 1 / info["gamma"]
            return _made_profile(info.get("chromaticity", _SRGB), transfer)
    elif not profile and image.format in ("AVIF", "HEIF"):
        code = _NCLX.search(data, 0, _META_BYTES)
        return _coded_profile(code[1][0], code[2][0]) if code else None
    return profile


def _coded_profile(primaries: int, transfer: int) -> bytes | None:
    """The profile of codes of ITU-T H.273."""
    return _made_profile(_PRIMARIES.get(primaries, _SRGB), _TRANSFERS.get(transfer, "srgb"))


@functools.lru_cache(maxsize=MAX_TRANSFORMS)
def _made_profile(chromaticity: tuple[float, ...], transfer: float | str) -> bytes | None:
    """An ICC profile of primaries and a transfer curve; None for impossible primaries."""
    try:
        primaries = _adapted_primaries(chromaticity)
        blocks = [struct.pack(">4sI3i", b"XYZ ", 0, *fixed) for fixed in primaries]
    except (ArithmeticError, ValueError, struct.error):
        return None
    curve = (_linear_light(transfer).clip(0, 1) * 65_535).round().astype(">u2").tobytes()
    blocks.append(struct.pack(">4sII", b"curv", 0, _CURVE) + curve)
    names, table, at = (b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"), b"", 132 + 6 * 12
    for number, name in enumerate(names):
        block = blocks[min(number, 3)]  # the three curves are one
        table += struct.pack(">4sII", name, at + 20 * min(number, 3), len(block))
    body = struct.pack(">I", len(names)) + table + b"".join(blocks)
    head = (128 + len(body), b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"", b"acsp", b"")
    white = (round(value * 65_536) for value in _D50)
    return struct.pack(">I4sI4s4s4s12s4s28s3i48x", *head, *white) + body


def _adapted_primaries(chromaticity: tuple[float, ...]) -> list[list[int]]:
    """XYZ of red, green and blue, adapted to D50, as fixed-point numbers of an ICC profile."""
    pairs = zip(chromaticity[::2], chromaticity[1::2], strict=True)
    white, *primaries = ([x / y, 1.0, (1 - x - y) / y] for x, y in pairs)
    columns = np.transpose(primaries)
    columns = columns * np.linalg.solve(columns, white)
    cones = _BRADFORD @ _D50 / (_BRADFORD @ white)
    adapted = np.linalg.solve(_BRADFORD, cones[:, None] * (_BRADFORD @ columns))
    return [[round(value * 65_536) for value in column] for column in adapted.T.tolist()]


def _linear_light(transfer: float | str) -> np.ndarray:
    """Linear light of all signals from 0 to 1; 1 is white, and HDR goes beyond it."""
    signal = np.linspace(0, 1, _CURVE)
    if transfer == "srgb":  # IEC 61966-2-1
        return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    if transfer == "pq":  # SMPTE ST 2084
        power = signal ** (32 / 2523)
        light = np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)
        return np.asarray(light ** (8192 / 1305) * 10_000 / _HDR_WHITE)
    if transfer == "hlg":  # ITU-R BT.2100, with the gamma of a display of 1,000 cd/m²
        dark = signal**2 / 3
        scene = np.where(signal <= 0.5, dark, (np.exp((signal - 0.55991) / 0.17883) + 0.28467) / 12)
        return np.asarray(scene**1.2 * 1_000 / _HDR_WHITE)
    return np.asarray(signal ** float(transfer))
