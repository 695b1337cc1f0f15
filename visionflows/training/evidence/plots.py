"""The pictures of a trained network; whatever its classes are called, none may fail a training.

    from visionflows.training.evidence.plots import draw
    pictures, left_out = draw(learn, metrics, history)

They are what fastai's show_batch, show_results and Interpretation draw, a confusion matrix and the
curves. Class names are shown as they are: `US$_$` is no formula. Nothing overlaps: titles are
broken into lines, and images make room for them.
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

LONGEST = 24  # characters of a class name in a picture
LINE = 25  # characters of a line above an image
MOST_NAMES, MOST_FIGURES = 120, 40  # classes of a confusion matrix that still can be read
CELL = 0.35  # inches of a confusion matrix that a class has, where it has room


def draw(
    learn: "Learner", metrics: dict[str, Any], history: list[dict[str, Any]]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """PNG bytes by name: batch, results, confusion, top_losses, curves; and why some are not there.

    A picture that cannot be drawn is left out, said in the log, and in the second of the two.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    pictures: dict[str, bytes] = {}
    left_out: dict[str, str] = {}
    with _text_as_it_is(), _short_names(learn):
        for name, drawing in _drawings(learn, metrics, history).items():
            try:
                drawing()
                pictures[name] = _png()
            # The network is trained and judged by now. What draws is fastai and matplotlib, over
            # names, fonts and photos of anybody's: whatever it is, it costs this picture alone.
            except Exception as error:  # noqa: BLE001
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("the picture %s is left out: %s", name, left_out[name])
            finally:
                plt.close("all")
    return pictures, left_out


def _drawings(
    learn: "Learner", metrics: dict[str, Any], history: list[dict[str, Any]]
) -> dict[str, Callable[[], object]]:
    from fastai.interpret import Interpretation

    classes, shown = list(learn.dls.vocab), min(9, len(learn.dls.valid_ds))
    columns = {"ncols": min(3, shown)}
    return {
        "batch": lambda: _with_room(learn.dls.train.show_batch(max_n=9, ncols=3)),
        "results": lambda: _with_room(learn.show_results(max_n=9, **columns)),
        "confusion": lambda: _draw_confusion(np.array(metrics["confusion"]), classes),
        "top_losses": lambda: _with_room(Interpretation.from_learner(learn).plot_top_losses(shown)),
        "curves": lambda: _draw_curves(history),
    }


@contextlib.contextmanager
def _text_as_it_is() -> Iterator[None]:
    """No text is read as a formula; a sign that the font lacks is an empty box, and no warning."""
    import matplotlib as mpl

    with (
        mpl.rc_context({"text.usetex": False, "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


@contextlib.contextmanager
def _short_names(learn: "Learner") -> Iterator[None]:
    """Let fastai's pictures show class names that fit into them."""
    vocab = learn.dls.vocab
    whole = vocab.items
    vocab.items = [_short(name) for name in whole]
    try:
        yield
    finally:
        vocab.items = whole


def _short(name: str) -> str:
    """A class name as it can be drawn: printable, and not longer than the picture."""
    shown = "".join(char if char.isprintable() else "?" for char in name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 9]}…{shown[-8:]}"


def _png() -> bytes:
    """The figure drawn last, as PNG."""
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    plt.gcf().savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    return buffer.getvalue()


def _with_room(_: object) -> None:
    """Let the images drawn last shrink until their titles fit between them, and read on a phone."""
    from matplotlib import pyplot as plt

    figure = plt.gcf()
    titles = [re.sub(" ?/ ?", " / ", axes.get_title()).splitlines() for axes in figure.axes]
    broken = [[part for line in lines for part in wrap(line, LINE)] for lines in titles]
    longest = max((len(line) for lines in broken for line in lines), default=0)
    for axes, lines in zip(figure.axes, broken, strict=True):
        axes.title.set_text("\n".join(lines))
        axes.title.set_fontsize(8 if longest > LINE // 2 else 11)
    figure.suptitle(figure.get_suptitle(), fontsize=9)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width * 2 / 3, height * 2 / 3)
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.06)


def _draw_confusion(confusion: np.ndarray, classes: list[str]) -> None:
    from matplotlib import pyplot as plt

    side = min(4 + CELL * len(classes), 30)
    _, axes = plt.subplots(figsize=(side, side), layout="constrained")
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual", title="Confusion matrix")
    if len(classes) <= MOST_NAMES:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
    if len(classes) <= MOST_FIGURES:
        digits = len(str(confusion.max()))
        size = min(10, 72 * CELL / (0.7 * digits))  # a digit is 0.64 as wide as it is high
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
            axes.axvline(frozen + 0.5, color="grey", linestyle=":", label="unfrozen from here")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=9)
    rates.set_ylim(0, 1)
