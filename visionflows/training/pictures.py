"""The pictures of a trained network; whatever its classes are called, none may fail a training.

    from visionflows.training.pictures import draw
    pictures, left_out = draw(learn, metrics, history)

They are what fastai's show_batch, show_results and Interpretation draw, a confusion matrix and the
curves. Class names are shown as they are: `US$_$` is no formula.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastai.learner import Learner

log = logging.getLogger("visionflows.evaluate")

LONGEST = 24  # characters of a class name in a picture
MOST_NAMES, MOST_FIGURES = 120, 40  # classes of a confusion matrix that still can be read


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
    return {
        "batch": lambda: learn.dls.train.show_batch(max_n=9),
        "results": lambda: learn.show_results(max_n=9),
        "confusion": lambda: _draw_confusion(np.array(metrics["confusion"]), classes),
        "top_losses": lambda: Interpretation.from_learner(learn).plot_top_losses(shown),
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
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def _png() -> bytes:
    """The figure drawn last, as PNG."""
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    plt.gcf().savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    return buffer.getvalue()


def _draw_confusion(confusion: np.ndarray, classes: list[str]) -> None:
    from matplotlib import pyplot as plt

    side = min(4 + 0.35 * len(classes), 30)
    _, axes = plt.subplots(figsize=(side, side))
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual", title="Confusion matrix")
    if len(classes) <= MOST_NAMES:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
    if len(classes) <= MOST_FIGURES:
        for row, column in np.ndindex(confusion.shape):
            colour = "white" if share[row, column] > 0.5 else "black"
            count = str(confusion[row, column])
            axes.text(column, row, count, ha="center", va="center", color=colour)


def _draw_curves(history: list[dict[str, Any]]) -> None:
    from matplotlib import pyplot as plt

    figure, (losses, rates) = plt.subplots(1, 2, figsize=(9, 3.2))
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
        axes.legend(fontsize=8)
    rates.set_ylim(0, 1)
    figure.tight_layout()
