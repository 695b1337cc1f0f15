"""Pillow for our own calls: the limit on pixels is ours, and what it and libtiff mutter is unheard.

    from visionflows.images.pillow import ours
    with ours(MAX_PIXELS), Image.open(file) as image: ...

Pillow's bomb limit, Python's filters of warnings and libtiff's handlers belong to the process, and
so to whoever else uses Pillow in it. None of them is changed for others here: each is asked first
whose call it is, by a context variable, which no other thread sees.
"""

import contextlib
import ctypes
import re
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from PIL import Image

from visionflows.images.image_status import BadImage

_limit: ContextVar[int | None] = ContextVar("visionflows_max_pixels", default=None)


@contextlib.contextmanager
def ours(max_pixels: int) -> Iterator[None]:
    """Let Pillow open pictures of so many pixels for the block, in this thread alone, quietly.

    A picture, frame or tile of more raises BadImage, `too_large`.
    """
    if _FILTER not in warnings.filters:  # someone has set them anew, as every test of pytest's does
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    token = _limit.set(max_pixels)
    try:
        yield
    finally:
        _limit.reset(token)


def check_pixels(size: tuple[int, int], most: int) -> None:
    """Nothing, for up to `most` pixels. Raises BadImage, `too_large`."""
    width, height = size
    if width * height > most:
        reason = f"{width}×{height} pixels, more than the limit of {most:,}"
        raise BadImage("too_large", reason)


_others_check = Image._decompression_bomb_check


def _bomb_check(size: tuple[int, int], **options: bool) -> None:
    limit = _limit.get()
    if limit is None:
        _others_check(size, **options)
    else:
        check_pixels(size, limit)


Image._decompression_bomb_check = _bomb_check


class _OfOurs:
    """What a filter of warnings asks of a module's name: whether it is Pillow's, in our call."""

    _pillow = re.compile(r"PIL\.")
    pattern = _pillow.pattern  # scikit-learn copies filters to its threads by it

    def match(self, module: str) -> bool:
        return _limit.get() is not None and self._pillow.match(module) is not None


# A damaged EXIF block is no reason to refuse a picture, nor to fill a log.
_FILTER: Any = ("ignore", None, UserWarning, _OfOurs(), 0)


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


def _unless_ours(setter: Any) -> Any:
    """Put a handler before one of libtiff's, which writes lines to stderr that name no file."""
    setter.argtypes, setter.restype = [_Handler], _Handler

    def tell(module: bytes, line: bytes, values: int) -> None:
        if others and _limit.get() is None:
            others(module, line, values)

    handler = _Handler(tell)
    others = setter(handler)
    return handler


def _compiled() -> Any:
    core = Image.core  # type: ignore[attr-defined]  # its own compiled half
    return ctypes.CDLL(core.__file__)  # finds what Pillow is linked to as well


def unpacks(compression: int) -> bool:
    """Whether Pillow's libtiff can unpack a compression, by its number in TIFF; True if unknown."""
    with contextlib.suppress(AttributeError):
        return bool(_compiled().TIFFIsCODECConfigured(compression))
    return True


def _libtiff() -> Iterator[Any]:
    """The handlers that libtiff calls for errors and warnings; kept, as it keeps no reference."""
    pillow = _compiled()
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        with contextlib.suppress(AttributeError):  # a Pillow without libtiff, or with one inside it
            yield _unless_ours(getattr(pillow, name))


_handlers = list(_libtiff())
