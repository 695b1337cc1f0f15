"""Photo grids of a trained network, as PNG; class names of any kind must not fail a training.

fastai's show_batch, show_results and plot_top_losses. Class names are shown literally: `US$_$` is
no formula. Titles are wrapped so that nothing overlaps. The background is transparent, for light
and dark pages. Import this module inside functions only, as fastai takes seconds to import.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import torch
from fastai.interpret import Interpretation
from fastai.learner import Learner
from matplotlib import pyplot as plt

log = logging.getLogger("visionflows.evaluate")

MAX_NAME = 24  # characters of a class name
MAX_LINE = 25  # characters of a line above an image
PNG: dict[str, Any] = {"format": "png", "dpi": 100, "bbox_inches": "tight", "transparent": True}
# Readable on white and on dark pages; show_results has green and red titles: right and wrong.
TEXT, TITLES = "#76808e", {"green": "#2f9e5b", "red": "#d9534f"}


def draw_image_grids(
    learn: Learner, losses: torch.Tensor
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return PNG bytes by name (batch, results, top_losses) and what is missing.

    `losses` (n,) are those of the validation images. The second dict has the reason for each plot
    that could not be drawn.
    """
    mpl.use("Agg")
    plots: dict[str, bytes] = {}
    skipped: dict[str, str] = {}
    with _literal_text(), _short_class_names(learn):
        for name, draw in _drawings(learn, losses).items():
            try:
                draw()
                buffer = io.BytesIO()
                plt.gcf().savefig(buffer, **PNG)
                plots[name] = buffer.getvalue()
            # fastai and matplotlib draw names and photos of any kind. An error of theirs must not
            # cost a finished training: the plot is skipped and the reason reported.
            except Exception as error:  # noqa: BLE001
                skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("plot %s skipped: %s", name, skipped[name])
            finally:
                plt.close("all")
    return plots, skipped


def _drawings(learn: Learner, losses: torch.Tensor) -> dict[str, Callable[[], object]]:
    count = min(9, len(learn.dls.valid_ds))
    columns = {"ncols": min(3, count)}
    interpretation = Interpretation(learn, learn.dls.valid, losses)
    return {
        "batch": lambda: _fit_titles(learn.dls.train.show_batch(max_n=9, ncols=3)),
        "results": lambda: _fit_titles(learn.show_results(max_n=9, **columns)),
        "top_losses": lambda: _fit_titles(interpretation.plot_top_losses(count)),
    }


@contextlib.contextmanager
def _literal_text() -> Iterator[None]:
    """Draw no text as a formula; draw characters that the font lacks as boxes, without warning."""
    with (
        mpl.rc_context({"text.usetex": False, "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


@contextlib.contextmanager
def _short_class_names(learn: Learner) -> Iterator[None]:
    """Let fastai's plots show class names that fit into them."""
    vocab = learn.dls.vocab
    names = vocab.items
    vocab.items = [_shorten(name) for name in names]
    try:
        yield
    finally:
        vocab.items = names


def _shorten(name: str) -> str:
    printable = "".join(char if char.isprintable() else "?" for char in name)
    if len(printable) <= MAX_NAME:
        return printable
    return f"{printable[: MAX_NAME - 9]}…{printable[-8:]}"


def _fit_titles(_: object) -> None:
    """Wrap the titles of the images drawn last, and make the figure readable on a phone."""
    figure = plt.gcf()
    titles = [re.sub(" ?/ ?", " / ", axes.get_title()).splitlines() for axes in figure.axes]
    wrapped = [[part for line in lines for part in wrap(line, MAX_LINE)] for lines in titles]
    longest = max((len(line) for lines in wrapped for line in lines), default=0)
    for axes, lines in zip(figure.axes, wrapped, strict=True):
        axes.title.set_text("\n".join(lines))
        axes.title.set_fontsize(8 if longest > MAX_LINE // 2 else 11)
        axes.title.set_color(TITLES.get(str(axes.title.get_color()), TEXT))
    figure.suptitle(figure.get_suptitle(), fontsize=9, color=TEXT)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width * 2 / 3, height * 2 / 3)
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.06)
