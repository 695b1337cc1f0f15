"""The page on which a person says what pictures are, and saves that as corrections.csv.

    from visionflows.reports.review import review_of, review_page
    page = review_page(review_of(run, place("inbox"), place("scores/night")))

Which rows are shown is said by visionflows.review.sampling, and what is saved by
visionflows.review.corrections.
"""

import csv
import dataclasses
import functools
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markupsafe import Markup

from visionflows.hashing import sha256_of
from visionflows.images.image_status import BadImage
from visionflows.reports.page import page
from visionflows.reports.thumbnails import contents, smaller
from visionflows.review.audit import Z
from visionflows.review.corrections import COLUMNS, Correction
from visionflows.review.sampling import Picked, Sample, Why, sample_of
from visionflows.scoring.schema import RunResult
from visionflows.storage.base import Storage
from visionflows.storage.prefetch import prefetch
from visionflows.system import decoder_count

SIDE = 320  # pixels of a picture's longest side
DIGITS = 9  # classes that have a digit each; of more, the likeliest have
_GROUPS: tuple[tuple[Why, str, str], ...] = (
    ("outlier", "Outliers", "Unlike what the network was trained on."),
    ("uncertain", "Least certain", "The labels nearest to a tie, and those marked for review."),
    ("audit", "Audit", "Drawn at random: these alone say how right the whole run is."),
)


@dataclasses.dataclass(frozen=True)
class Shown:
    """A row of a review, the sha256 of the content that is shown, and that as a small JPEG."""

    row: Picked
    sha256: str
    picture: bytes


@dataclasses.dataclass(frozen=True)
class Review:
    """What a person is asked of a run; `gone` rows of the sample could not be shown any more."""

    run: RunResult
    sample: Sample
    shown: list[Shown]
    gone: int

    def correction(self, one: Shown) -> Correction:
        """The line of corrections.csv that is written of a row, but for the answer."""
        row, run = one.row, self.run
        return Correction(
            *(row.path, one.sha256, "", "", row.label, f"{row.confidence:.6f}", row.why),
            drawn=self.sample.audited if row.why == "audit" else 0,
            model=f"{run.model.name}@{run.model.version}",
            scored=run.ended,
            root=run.root or run.input,
        )


def review_of(run: RunResult, source: Storage, output: Storage) -> Review:
    """The rows of a run that a person should look at, with their pictures.

    The seed of the random ones is the job's digest (of the names that were scored, the model and
    the settings), so that the same run asks the same again.
    """
    with output.open_read(f"{run.folder}predictions.csv") as file:
        lines = csv.reader(io.TextIOWrapper(file, "utf-8", newline=""))
        sample = sample_of(lines, run.model.classes, run.job or run.started)
    shown = [one for one in _pictures(sample.rows, source) if one]
    return Review(run, sample, shown, len(sample.rows) - len(shown))


def _pictures(rows: list[Picked], source: Storage) -> Iterator[Shown | None]:
    """Each row with its picture, in order; None for one that is gone, or opens no more."""

    def made(pair: tuple[Picked, bytes | OSError]) -> Shown | None:
        row, content = pair
        if isinstance(content, OSError):
            return None
        try:
            return Shown(row, sha256_of(content), smaller(content, SIDE))
        except BadImage:
            return None

    found = contents(source, (row.path for row in rows))
    return prefetch(made, zip(rows, found, strict=True), decoder_count())


def review_page(review: Review) -> str:
    """The page: one file that needs no server; what is said is kept by the browser meanwhile."""
    numbered = itertools.count()
    groups = [
        (why, title, text, [(next(numbered), one) for one in review.shown if one.row.why == why])
        for why, title, text in _GROUPS
    ]
    return page("review.html").render(
        review=review,
        run=review.run,
        groups=[group for group in groups if group[3]],
        told=_told(review, [one for *_, shown in groups for _, one in shown]),
        script=_script(),
    )


def _told(review: Review, shown: list[Shown]) -> dict[str, Any]:
    """What the page's script is told, in the order of the page."""
    classes = review.run.model.classes
    lines = (review.correction(one)._asdict() for one in shown)
    return {
        # Of these contents: a camera may give other pictures the same names every night.
        "key": f"visionflows-review {sha256_of(' '.join(one.sha256 for one in shown).encode())}",
        "columns": COLUMNS,
        "classes": classes,
        "digits": DIGITS,
        "z": Z,
        "drawn": review.sample.audited,
        "rows": [
            {name: line[name] for name in COLUMNS} | {"guesses": one.row.guesses}
            for line, one in zip(lines, shown, strict=True)
        ],
    }


@functools.cache
def _script() -> Markup:
    return Markup((Path(__file__).parent / "review.js").read_text("utf-8"))
