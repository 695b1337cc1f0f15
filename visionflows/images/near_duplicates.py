"""Pictures that look alike: the same photo again, smaller, recompressed, or cut a little.

    from visionflows.images.near_duplicates import array_of, first_alike, groups, signature
    array = array_of(signature(open_image(path)).hex() for path in paths)
    groups(array)                                    # of each picture the first of its group
    first_alike(array)                               # and the first before it that it looks like

A signature is 256 signs of a picture's low frequencies, the perceptual hash of Facebook's PDQ (The
TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm, 2019), and, since that sees
neither brightness nor colour, a thumbnail of 6 × 6 luminances and 2 × 2 colours. Pictures look
alike if both differ little; MOST_SIGNS says what was seen.

Many pictures are compared only where 16 of their lowest 64 signs, drawn 32 times, are equal once
(bit sampling: Indyk and Motwani, Approximate Nearest Neighbors, STOC 1998).
"""

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

SIDE, FREQUENCIES = 64, 16  # pixels a side that are looked at, and cosines each way: PDQ's
LUMA, CHROMA = 6, 2  # pixels a side of the thumbnail
SIGNS = FREQUENCIES**2 // 8  # bytes
BYTES = SIGNS + LUMA**2 + 2 * CHROMA**2
FLAT = 3.0  # grey levels of standard deviation, below which a picture has no signature
# Of 256. Seen on 2,002 photos of cats and dogs: of 2 million pairs of different photos none is
# nearer than 82, the mean is 128 and the deviation 8.3; of copies, resized to a quarter or saved
# at quality 10 all are within 48; cut by 2 % on each side within 64, 99 % of them within 52.
MOST_SIGNS = 56
# Grey levels, root mean square. It tells red from blue of one shape, and two handwritten threes.
MOST_LUMA = MOST_CHROMA = 11.0
BANDS, LOWEST = 32, 8  # draws of 16 signs, from the lowest 8 × 8 frequencies
FIRST = 200  # of the pictures that one draw finds equal, as many are compared with all others

_COSINES = np.sqrt(2 / SIDE) * np.cos(
    np.pi / (2 * SIDE) * np.outer(np.arange(1, FREQUENCIES + 1), 2 * np.arange(SIDE) + 1)
)
_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(1)


def signature(image: Image.Image) -> bytes:
    """The signature of an RGB picture: BYTES bytes; empty for one that is of one colour.

    The low frequencies of one without any are rounding errors, and make all such pictures alike.
    """
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX).convert("YCbCr")
    luma, *colours = small.split()
    grey = np.asarray(luma, np.float64)
    if grey.std() < FLAT:
        return b""
    waves = _COSINES @ grey @ _COSINES.T
    signs = np.packbits(waves > np.median(waves)).tobytes()
    thumbnail = luma.resize((LUMA, LUMA), Image.Resampling.BOX).tobytes()
    tints = (one.resize((CHROMA, CHROMA), Image.Resampling.BOX).tobytes() for one in colours)
    return signs + thumbnail + b"".join(tints)


def signature_array(signatures: Iterable[str]) -> np.ndarray:
    """The signatures of hex digits as uint8 (n, BYTES); zeros for one that is none."""
    found = (bytes.fromhex(text) if len(text) == 2 * BYTES else bytes(BYTES) for text in signatures)
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, BYTES)


def group_duplicates(array: np.ndarray) -> np.ndarray:
    """The group of each picture, by the index of its first: int64 (n,).

    A group is of pictures that look like one another, or like others of the group.
    """
    root = np.arange(len(array))
    for one, other in _candidates(array):
        apart = root[one] != root[other]
        one, other = one[apart], other[apart]
        near = _alike(array, one, other)
        for a, b in zip(one[near].tolist(), other[near].tolist(), strict=True):
            low, high = sorted((_root(root, a), _root(root, b)))
            root[high] = low
        while (root != root[root]).any():
            root = root[root]
    return root


def first_duplicate(array: np.ndarray, known: int | None = None) -> np.ndarray:
    """The first before each picture that it looks like: int64 (n,) of indices, -1 for none.

    With `known`, of the so many first ones, for those that come after them.
    """
    first = np.full(len(array), len(array))
    for one, other in _candidates(array):
        better = one < first[other]
        if known is not None:
            better &= (one < known) & (other >= known)
        one, other = one[better], other[better]
        near = _alike(array, one, other)
        np.minimum.at(first, other[near], one[near])
    return np.where(first == len(array), -1, first)


def _root(root: np.ndarray, at: int) -> int:
    while root[at] != at:
        at = int(root[at])
    return at


def _candidates(array: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of indices (the lower, the higher) of pictures that may look alike."""
    known = np.flatnonzero(array.any(1))
    draws = np.random.default_rng(0)
    lowest = np.arange(FREQUENCIES**2).reshape(FREQUENCIES, -1)[:LOWEST, :LOWEST].ravel()
    for _ in range(BANDS):
        keys = _key(array[known, :SIGNS], draws.choice(lowest, 16, replace=False))
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        begins = np.searchsorted(keys, keys)  # of its run of equal ones
        storage = np.arange(len(keys)) - begins
        for at in range(min(int(storage.max(initial=0)), FIRST)):
            later = np.flatnonzero(storage > at)
            yield known[order[begins[later] + at]], known[order[later]]


def _key(signs: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Those 16 signs of each picture as a number."""
    key = np.zeros(len(signs), np.uint16)
    for at in drawn.tolist():
        key = (key << 1) | ((signs[:, at // 8] >> (7 - at % 8)) & 1)
    return key


def _alike(array: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the pictures of two arrays of indices look alike, pair by pair."""
    signs = array.view(np.uint16)[:, : SIGNS // 2]
    near: np.ndarray = _ONES[signs[one] ^ signs[other]].sum(1) <= MOST_SIGNS
    left = np.flatnonzero(near)
    apart = array[one[left], SIGNS:].astype(np.float64) - array[other[left], SIGNS:]
    luma, chroma = np.split(apart**2, [LUMA**2], axis=1)
    near[left] = (luma.mean(1) <= MOST_LUMA**2) & (chroma.mean(1) <= MOST_CHROMA**2)
    return near
