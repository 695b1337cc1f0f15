"""Near-duplicates: the same photo again, smaller, recompressed or cropped a little.

A signature is 256 signs of an image's low frequencies, the perceptual hash of Facebook's PDQ (The
TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm, 2019). As that ignores
brightness and colour, a thumbnail of 6 × 6 luminances and 2 × 2 colours follows. Two images are
near-duplicates if both differ little.

Only images are compared that agree in 16 of their lowest 64 signs in one of 32 draws (bit sampling:
Indyk and Motwani, Approximate Nearest Neighbors, STOC 1998).
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from visionflows.images.color_profiles import attached_profile, convert_to_srgb

SIDE, FREQUENCIES = 64, 16  # pixels a side, and cosines in each direction: those of PDQ
LUMA, CHROMA = 6, 2  # pixels a side of the thumbnail
SIGNS = FREQUENCIES**2 // 8  # bytes
BYTES = SIGNS + LUMA**2 + 2 * CHROMA**2
FLAT = 3.0  # grey levels of standard deviation, below which an image has no signature
# Of 256. Measured on 2,002 photos of cats and dogs: 2 million pairs of different photos differ in
# 82 or more (mean 128, deviation 8.3). Copies resized to a quarter or saved at quality 10 differ in
# 48 or fewer; copies cropped by 2 % on each side in 64 or fewer, 99 % of them in 52 or fewer.
MAX_SIGNS = 56
# Grey levels, root mean square. Distinguishes colours of one shape, and two handwritten threes.
MAX_LUMA = MAX_CHROMA = 11.0
DRAWS, LOWEST = 32, 8  # of 16 signs, from the lowest 8 × 8 frequencies
FIRST = 200  # of the images that agree in one draw, so many are compared with all others

_COSINES = np.sqrt(2 / SIDE) * np.cos(
    np.pi / (2 * SIDE) * np.outer(np.arange(1, FREQUENCIES + 1), 2 * np.arange(SIDE) + 1)
)
_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(1)


def signature(image: Image.Image) -> bytes:
    """The signature of an RGB image: BYTES bytes; empty for an image of one colour.

    Without contrast, the signs would be those of rounding errors.
    """
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    convert_to_srgb(small, attached_profile(image))
    luma, *colours = small.convert("YCbCr").split()
    grey = np.asarray(luma, np.float64)
    if grey.std() < FLAT:
        return b""
    waves = _COSINES @ grey @ _COSINES.T
    signs = np.packbits(waves > np.median(waves)).tobytes()
    thumbnail = luma.resize((LUMA, LUMA), Image.Resampling.BOX).tobytes()
    tints = (one.resize((CHROMA, CHROMA), Image.Resampling.BOX).tobytes() for one in colours)
    return signs + thumbnail + b"".join(tints)


def signature_array(signatures: Iterable[str]) -> np.ndarray:
    """Signatures as hex digits, as an array: uint8 (n, BYTES); zeros for an empty one."""
    found = (bytes.fromhex(text) if len(text) == 2 * BYTES else bytes(BYTES) for text in signatures)
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, BYTES)


def group_duplicates(array: np.ndarray) -> np.ndarray:
    """The group of each image, by the index of the first image in it: int64 (n,).

    Each image of a group is a near-duplicate of another one in it.
    """
    root = np.arange(len(array))
    for one, other in _candidates(array, lambda one, other: root[one] != root[other]):
        near = _are_near(array, one, other)
        for a, b in zip(one[near].tolist(), other[near].tolist(), strict=True):
            low, high = sorted((_root(root, a), _root(root, b)))
            root[high] = low
        while (root != root[root]).any():
            root[:] = root[root]
    return root


def first_duplicate(array: np.ndarray, known: int | None = None) -> np.ndarray:
    """The index of the first near-duplicate before each image: int64 (n,), -1 for none.

    With `known`, only among the first `known` images, for the images after them.
    """
    first = np.full(len(array), len(array))

    def is_better(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        better: np.ndarray = one < first[other]
        return better if known is None else better & (one < known) & (other >= known)

    for one, other in _candidates(array, is_better):
        near = _are_near(array, one, other)
        np.minimum.at(first, other[near], one[near])
    return np.where(first == len(array), -1, first)


def _root(root: np.ndarray, at: int) -> int:
    while root[at] != at:
        at = int(root[at])
    return at


def _candidates(
    array: np.ndarray, is_wanted: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of indices (the lower, the higher) of images that may be near-duplicates, each once.

    Of the pairs only those of which `is_wanted` is True for their indices.
    """
    known = np.flatnonzero(array.any(1))
    draws = np.random.default_rng(0)
    lowest = np.arange(FREQUENCIES**2).reshape(FREQUENCIES, -1)[:LOWEST, :LOWEST].ravel()
    earlier: list[tuple[np.ndarray, np.ndarray]] = []  # of each draw: keys, and who is compared
    for _ in range(DRAWS):
        keys = _key(array[known, :SIGNS], draws.choice(lowest, 16, replace=False))
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        starts = np.searchsorted(ordered, ordered)  # of the run of equal keys
        positions = np.arange(len(keys)) - starts
        for at in range(min(int(positions.max(initial=0)), FIRST)):
            later = np.flatnonzero(positions > at)
            one, other = order[starts[later] + at], order[later]
            wanted = is_wanted(known[one], known[other])
            one, other = one[wanted], other[wanted]
            for before, is_first in earlier if len(one) else ():
                new = ~((before[one] == before[other]) & is_first[one])
                one, other = one[new], other[new]
            yield known[one], known[other]
        is_first = np.empty(len(keys), bool)
        is_first[order] = positions < FIRST
        earlier.append((keys, is_first))


def _key(signs: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The 16 drawn signs of each image as a number."""
    bits = signs[:, drawn // 8] >> (7 - drawn % 8).astype(np.uint8) & 1
    key: np.ndarray = bits @ (1 << np.arange(16, dtype=np.uint16))
    return key


def _are_near(array: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the images of two arrays of indices are near-duplicates, pair by pair."""
    signs = array.view(np.uint16)[:, : SIGNS // 2]
    near: np.ndarray = _ONES[signs[one] ^ signs[other]].sum(1) <= MAX_SIGNS
    left = np.flatnonzero(near)
    apart = array[one[left], SIGNS:].astype(np.float64) - array[other[left], SIGNS:]
    luma, chroma = np.split(apart**2, [LUMA**2], axis=1)
    near[left] = (luma.mean(1) <= MAX_LUMA**2) & (chroma.mean(1) <= MAX_CHROMA**2)
    return near
