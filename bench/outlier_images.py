"""Make outlier images: charts, pages, receipts, noise, digits, textures.

    python bench/outlier_images.py outliers --each 50 --seed 1

Writes JPEG files named by their kind: eight kinds that are drawn here, and `photo`, crops of the
two photographs that come with scikit-learn. The same seed gives the same images. For
bench/outliers.py.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Draws = np.random.Generator
WORDS = (
    *("the", "of", "and", "total", "in", "to", "price", "was", "is", "on", "for", "with", "as"),
    *("this", "are", "order", "date", "amount", "paid", "cash", "card", "thank", "you", "visit"),
    *("invoice", "report", "figure", "table", "results"),
)


def _size(draws: Draws) -> tuple[int, int]:
    return int(draws.integers(280, 500)), int(draws.integers(280, 500))


def chart(draws: Draws) -> Image.Image:
    """A line, bar, scatter or pie chart, a heatmap or a histogram, by matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    width, height = _size(draws)
    styles = ["default", "ggplot", "dark_background", "bmh", "fivethirtyeight"]
    with pyplot.style.context(str(draws.choice(styles))):
        figure, axes = pyplot.subplots(figsize=(width / 100, height / 100), dpi=100)
        _PLOTS[int(draws.integers(len(_PLOTS)))](axes, draws)
        axes.set_title(" ".join(draws.choice(WORDS, 3)), fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        pyplot.close(figure)
    return Image.open(buffer).convert("RGB")


_PLOTS: list[Callable] = [
    lambda axes, draws: axes.plot(draws.normal(size=(40, int(draws.integers(1, 5)))).cumsum(0)),
    lambda axes, draws: axes.bar(range(8), draws.random(8)),
    lambda axes, draws: axes.scatter(*draws.normal(size=(2, 200)), s=12),
    lambda axes, draws: axes.pie(draws.random(6) + 0.1),
    lambda axes, draws: axes.imshow(draws.random((12, 12)), aspect="auto"),
    lambda axes, draws: axes.hist(draws.normal(size=500), bins=25),
]


def _font(size: int, mono: bool = False) -> ImageFont.FreeTypeFont:
    """One of the fonts that come with matplotlib: the same on every machine."""
    import matplotlib

    name = "DejaVuSansMono.ttf" if mono else "DejaVuSerif.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)


def page(draws: Draws) -> Image.Image:
    """Lines of text on off-white paper."""
    width, height = _size(draws)
    image = Image.new("RGB", (width, height), tuple(draws.integers(225, 256, 3).tolist()))
    pen, size = ImageDraw.Draw(image), int(draws.integers(9, 20))
    for y in range(int(draws.integers(8, 40)), height - size, int(size * draws.uniform(1.2, 1.8))):
        pen.text((20, y), " ".join(draws.choice(WORDS, 14)), tuple([20] * 3), _font(size))
    return image


def receipt(draws: Draws) -> Image.Image:
    """A slightly rotated receipt on a plain background."""
    width, height = _size(draws)
    slip = Image.new("RGB", (width // 2, height - 30), (250, 249, 244))
    pen, size = ImageDraw.Draw(slip), int(draws.integers(9, 14))
    for y in range(8, slip.height - size, size + 4):
        words = " ".join(draws.choice(WORDS, 2))
        pen.text((6, y), f"{words:16} {draws.uniform(1, 99):6.2f}", (40, 40, 40), _font(size, True))
    rotated = slip.convert("RGBA").rotate(float(draws.uniform(-15, 15)), expand=True)
    image = Image.new("RGB", (width, height), tuple(draws.integers(30, 200, 3).tolist()))
    image.paste(rotated, ((width - rotated.width) // 2, (height - rotated.height) // 2), rotated)
    return image


def noise(draws: Draws) -> Image.Image:
    """Noise with a grain of 1 to 64 pixels, in colour or grey."""
    width, height = _size(draws)
    grain, channels = 2 ** int(draws.integers(0, 7)), int(draws.choice([1, 3]))
    shape = (height // grain + 2, width // grain + 2, channels)
    small = np.broadcast_to(draws.integers(0, 256, shape, dtype=np.uint8), (*shape[:2], 3))
    return Image.fromarray(np.ascontiguousarray(small)).resize((width, height), Image.BICUBIC)


def digits(draws: Draws) -> Image.Image:
    """One or several handwritten digits of scikit-learn."""
    from sklearn.datasets import load_digits

    images, side = load_digits().images, int(draws.choice([1, 2, 4, 6]))
    chosen = images[draws.integers(0, len(images), side * side)].reshape(side, side, 8, 8)
    sheet = (chosen.transpose(0, 2, 1, 3).reshape(8 * side, 8 * side) * 15.9).astype(np.uint8)
    sheet = 255 - sheet if draws.random() < 0.5 else sheet
    return Image.fromarray(sheet).resize(_size(draws), Image.BICUBIC).convert("RGB")


def texture(draws: Draws) -> Image.Image:
    """Stripes, checks, rings, cells or wood grain, in two colours."""
    width, height = _size(draws)
    y, x = np.mgrid[0:height, 0:width] / draws.uniform(4, 40)
    turn = draws.uniform(0, 3.14)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    points = draws.uniform(0, 1, (40, 2)) * (y.max(), x.max())
    waves = draws.normal(size=6) @ np.sin(np.outer(np.arange(1, 7), across.ravel() / 9))
    pattern = [
        lambda: np.sin(along),
        lambda: np.sign(np.sin(along) * np.sin(across)),
        lambda: np.sin(np.hypot(x - x.mean(), y - y.mean())),
        lambda: -np.min([np.hypot(y - a, x - b) for a, b in points], 0),
        lambda: np.sin(along / 4 + waves.reshape(x.shape)),
    ][int(draws.integers(5))]()
    share = ((pattern - pattern.min()) / np.ptp(pattern))[..., None]
    first, second = draws.integers(0, 256, (2, 3))
    speckled = first * share + second * (1 - share) + draws.normal(0, 8, (height, width, 1))
    return Image.fromarray(speckled.clip(0, 255).astype(np.uint8))


def shapes(draws: Draws) -> Image.Image:
    """Coloured circles, boxes and lines, like a logo or drawing."""
    width, height = _size(draws)
    image = Image.new("RGB", (width, height), tuple(draws.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(int(draws.integers(1, 12))):
        x, y = draws.integers(0, (width, height), (2, 2)).T
        box, colour = [min(x), min(y), max(x), max(y)], tuple(draws.integers(0, 256, 3).tolist())
        kind = int(draws.integers(3))
        if kind == 2:
            pen.line([*map(int, box)], colour, int(draws.integers(2, 14)))
        else:
            (pen.ellipse if kind else pen.rectangle)([*map(int, box)], colour)
    return image


def plain(draws: Draws) -> Image.Image:
    """A plain colour gradient, like a lens cap, a wall or an empty sky."""
    width, height = _size(draws)
    first, second = draws.integers(0, 256, (2, 3))
    turn = draws.uniform(0, 6.28)
    y, x = np.mgrid[0:height, 0:width]
    share = x / width * np.cos(turn) + y / height * np.sin(turn)
    share = ((share - share.min()) / np.ptp(share) * draws.random())[..., None]
    faded = first * (1 - share) + second * share + draws.normal(0, 2, (height, width, 3))
    return Image.fromarray(faded.clip(0, 255).astype(np.uint8))


def photo(draws: Draws) -> Image.Image:
    """A crop of a real photograph of another subject."""
    from sklearn.datasets import load_sample_images

    image = Image.fromarray(load_sample_images().images[int(draws.integers(2))])
    width, height = (int(side * draws.uniform(0.4, 0.9)) for side in image.size)
    left = int(draws.integers(image.width - width))
    top = int(draws.integers(image.height - height))
    return image.crop((left, top, left + width, top + height))


DRAWN = (chart, page, receipt, noise, digits, texture, shapes, plain)


def write(folder: Path, each: int, seed: int) -> None:
    """Write `each` images of every kind to a folder, as <kind>-<number>.jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    for at, kind in enumerate((*DRAWN, photo)):
        for number in range(each):
            draws = np.random.default_rng([seed, at, number])
            kind(draws).save(folder / f"{kind.__name__}-{number:03d}.jpg", quality=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write(options.folder, options.each, options.seed)
