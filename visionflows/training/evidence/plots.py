"""Plots of a trained network, as PNG; class names of any kind must not fail a training.

fastai's show_batch, show_results and plot_top_losses, a confusion matrix and the loss curves. Class
names are shown literally: `US$_$` is no formula. Titles are wrapped so that nothing overlaps.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastai.learner import Learner

log = logging.getLogger("visionflows.evaluate")

MAX_NAME = 24  # characters of a class name
MAX_LINE = 25  # characters of a line above an image
MAX_TICK_LABELS, MAX_COUNTS = 120, 40  # classes of a confusion matrix that stays readable
CELL_INCHES = 0.35  # of a class in a confusion matrix, if there is room


def draw_plots(
    learn: "Learner", metrics: dict[str, Any], history: list[dict[str, Any]]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return PNG bytes by name (batch, results, confusion, top_losses, curves) and what is missing.

    The second dict has the reason for each plot that could not be drawn.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plots: dict[str, bytes] = {}
    skipped: dict[str, str] = {}
    with _literal_text(), _short_class_names(learn):
        for name, draw in _drawings(learn, metrics, history).items():
            try:
                draw()
                plots[name] = _current_png()
            # fastai and matplotlib draw names and photos of any kind. An error of theirs must not
            # cost a finished training: the plot is skipped and the reason reported.
            except Exception as error:  # noqa: BLE001
                skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("plot %s skipped: %s", name, skipped[name])
            finally:
                plt.close("all")
    return plots, skipped


def _drawings(
    learn: "Learner", metrics: dict[str, Any], history: list[dict[str, Any]]
) -> dict[str, Callable[[], object]]:
    from fastai.interpret import Interpretation

    classes, count = list(learn.dls.vocab), min(9, len(learn.dls.valid_ds))
    columns = {"ncols": min(3, count)}
    interpretation = Interpretation.from_learner
    return {
        "batch": lambda: _fit_titles(learn.dls.train.show_batch(max_n=9, ncols=3)),
        "results": lambda: _fit_titles(learn.show_results(max_n=9, **columns)),
        "confusion": lambda: _draw_confusion(np.array(metrics["confusion"]), classes),
        "top_losses": lambda: _fit_titles(interpretation(learn).plot_top_losses(count)),
        "curves": lambda: _draw_curves(history),
    }


@contextlib.contextmanager
def _literal_text() -> Iterator[None]:
    """Draw no text as a formula; draw characters that the font lacks as boxes, without warning."""
    import matplotlib as mpl

    with (
        mpl.rc_context({"text.usetex": False, "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


@contextlib.contextmanager
def _short_class_names(learn: "Learner") -> Iterator[None]:
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


def _current_png() -> bytes:
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    plt.gcf().savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    return buffer.getvalue()


def _fit_titles(_: object) -> None:
    """Wrap the titles of the images drawn last, and make the figure readable on a phone."""
    from matplotlib import pyplot as plt

    figure = plt.gcf()
    titles = [re.sub(" ?/ ?", " / ", axes.get_title()).splitlines() for axes in figure.axes]
    wrapped = [[part for line in lines for part in wrap(line, MAX_LINE)] for lines in titles]
    longest = max((len(line) for lines in wrapped for line in lines), default=0)
    for axes, lines in zip(figure.axes, wrapped, strict=True):
        axes.title.set_text("\n".join(lines))
        axes.title.set_fontsize(8 if longest > MAX_LINE // 2 else 11)
    figure.suptitle(figure.get_suptitle(), fontsize=9)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width * 2 / 3, height * 2 / 3)
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.06)


def _draw_confusion(confusion: np.ndarray, classes: list[str]) -> None:
    from matplotlib import pyplot as plt

    side = min(4 + CELL_INCHES * len(classes), 30)
    _, axes = plt.subplots(figsize=(side, side), layout="constrained")
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual", title="Confusion matrix")
    if len(classes) <= MAX_TICK_LABELS:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
    if len(classes) <= MAX_COUNTS:
        digits = len(str(confusion.max()))
        size = min(10, 72 * CELL_INCHES / (0.7 * digits))  # a digit is 0.64 as wide as it is high
        for row, column in np.argwhere(confusion):
            colour = "white" if share[row, column] > 0.5 else "black"
            count = str(confusion[row, column])
            axes.text(column, row, count, ha="center", va="center", color=colour, size=size)


def _draw_curves(history: list[dict[str, Any]]) -> None:
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    _, (losses, rates) = plt.subplots(2, 1, figsize=(5.6, 6), layout="constrained")
    epochs = [row["epoch"] + 1 for row in history]
    for axes, names in (
        (losses, ("train_loss", "valid_loss")),
        (rates, ("error_rate", "accuracy")),
    ):
        for name in names:
            axes.plot(epochs, [row[name] for row in history], marker="o", label=name)
        frozen = sum(row["phase"] == "frozen" for row in history)
        if frozen and frozen < len(history):
            axes.axvline(frozen + 0.5, color="grey", linestyle=":", label="unfrozen")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=9)
    rates.set_ylim(0, 1)
