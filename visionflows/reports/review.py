"""The review page: people confirm or correct labels and save the answers as corrections.csv."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

from markupsafe import Markup

from visionflows.evaluation.statistics import Z
from visionflows.hashing import sha256_of
from visionflows.images.image_status import BadImage
from visionflows.reports.links import folder_of, link_to_run, relative_address
from visionflows.reports.rendering import render
from visionflows.reports.thumbnails import read_contents, shrink_to_jpeg
from visionflows.review.corrections import COLUMNS, Correction
from visionflows.review.sampling import Sample, SampledRow, sample_rows
from visionflows.scoring.schema import RunResult
from visionflows.storage import open_location
from visionflows.storage.base import Storage
from visionflows.storage.name_encoding import decode_name
from visionflows.storage.prefetch import prefetch
from visionflows.system import decoder_count

SIDE = 320  # pixels of a photo's longest side


@dataclasses.dataclass(frozen=True)
class ReviewItem:
    """A row to review, the SHA-256 of its file, and the photo as a small JPEG."""

    row: SampledRow
    sha256: str
    jpeg: bytes


@dataclasses.dataclass(frozen=True)
class Review:
    """What people review of a run; `missing` rows of the sample cannot be read any more.

    The items are in the order of the sample, which is that of the page.
    """

    run: RunResult
    sample: Sample
    items: list[ReviewItem]
    missing: int

    def correction(self, item: ReviewItem) -> Correction:
        """The line of corrections.csv for an item, without the answer."""
        row, run = item.row, self.run
        return Correction(
            *(row.path, item.sha256, "", "", row.label, f"{row.confidence:.6f}", row.why),
            drawn=self.sample.audited if row.why == "audit" else 0,
            model=f"{run.model.name}@{run.model.version}",
            scored=run.ended,
            root=run.root,
            decisions=len(run.model.classes) if run.model.multi_label else 0,
        )


def build_review(run: RunResult, source: Storage, output: Storage) -> Review:
    """The rows of a run to review, with their photos.

    The job's digest is the seed of the random sample, so a repeated run has the same sample.
    """
    with output.open_read(f"{run.folder}predictions.csv") as file:
        lines = csv.reader(io.TextIOWrapper(file, "utf-8", newline=""))
        sample = sample_rows(lines, run.model.classes, run.job)
    contents = read_contents(source, (row.path for row in sample.rows))
    pairs = zip(sample.rows, contents, strict=True)
    items = [item for item in prefetch(_read_item, pairs, decoder_count()) if item]
    return Review(run, sample, items, len(sample.rows) - len(items))


def _read_item(pair: tuple[SampledRow, bytes | OSError]) -> ReviewItem | None:
    """The item of a row and its file's bytes; None if the file is missing or unreadable."""
    row, content = pair
    if isinstance(content, OSError):
        return None
    try:
        return ReviewItem(row, sha256_of(content), shrink_to_jpeg(content, SIDE))
    except BadImage:
        return None


def render_review(review: Review) -> str:
    """The HTML of the review page. The browser keeps the answers until they are saved."""
    return render(
        "review.html",
        review=review,
        run=review.run,
        links=link_to_run(review.run, "review.html"),
        data=_script_data(review),
        script=Markup((Path(__file__).parent / "review.js").read_text("utf-8")),
    )


def _script_data(review: Review) -> dict[str, Any]:
    """The JSON that review.js reads."""
    digest = sha256_of(" ".join(item.sha256 for item in review.items).encode())
    run, root = review.run, str(open_location(review.run.root)).rstrip("/")
    folder = folder_of(run)
    return {
        "key": f"visionflows-review {digest}",  # by content: cameras use file names again
        "columns": COLUMNS,
        "classes": run.model.classes,
        "several": run.model.multi_label,
        "z": Z,
        "sampled": review.sample.audited,
        "rows": [
            {
                **dict(zip(COLUMNS, review.correction(item), strict=False)),
                "guesses": item.row.guesses,
                "original": relative_address(f"{root}/{decode_name(item.row.path)}", folder),
            }
            for item in review.items
        ],
    }
