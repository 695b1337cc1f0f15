"""ICC profiles made by hand (ICC.1: a header, a table of tags, matrices, curves and tables)."""

import struct

# XYZ of red, green and blue, adapted to D50.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
D50 = (0.9642, 1.0, 0.8249)


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))


def profile(
    space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ "
) -> bytes:
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data
    head = struct.pack(">I4xI4s4s4s", at + len(body), 0x02200000, kind, space, pcs)
    head = (head.ljust(36, b"\0") + b"acsp").ljust(68, b"\0") + fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def gamma(exponent: float) -> bytes:
    return b"curv" + struct.pack(">4xIH", 1, round(exponent * 256))


def rgb(primaries=SRGB, exponent: float = 2.2) -> bytes:
    columns = (b"XYZ \0\0\0\0" + fixed(*primary) for primary in primaries)
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True))
    return profile(b"RGB ", {**tags, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(exponent))})


def grey(exponent: float) -> bytes:
    return profile(b"GRAY", {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50), b"kTRC": gamma(exponent)})


def cmyk() -> bytes:
    """A press whose black ink alone is no black, and whose other inks are faint."""
    nodes = b""
    for number in range(16):
        inks = [number >> shift & 1 for shift in (3, 2, 1, 0)]
        lightness = 255 - 40 * sum(inks[:3]) - 90 * inks[3]
        nodes += bytes([lightness, 128 + 30 * (inks[1] - inks[0]), 128])
    ramp = bytes(range(256))
    table = b"mft1" + bytes([0, 0, 0, 0, 4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return profile(
        b"CMYK", {b"A2B0": table + ramp * 4 + nodes + ramp * 3}, kind=b"prtr", pcs=b"Lab "
    )


SWAPPED = rgb((SRGB[2], SRGB[0], SRGB[1]))  # its red is blue, its green red, its blue green
