"""The pages a person opens first: of a scoring run, and of a trained model.

    from visionflows.reports.scoring import collect_samples, scoring_report
    page = scoring_report(run, collect_samples(run, place("inbox"), place("scores/night")))

Each is one file that needs no network: pictures are in it, charts are SVG made here, and every
name and label is escaped, for file names are whatever somebody uploaded.
"""

import csv
import dataclasses
import heapq
import io
from collections.abc import Iterable
from typing import Any

from visionflows.images.image_status import SCORED_STATUSES
from visionflows.reports.page import page, percent
from visionflows.reports.thumbnails import thumbnail
from visionflows.scoring.schema import Counts, RunResult
from visionflows.storage.base import Storage

SAMPLES, LEAST_CERTAIN, ODDEST, FAILURES, CLASSES, BARS = 8, 12, 12, 200, 24, 40


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture shown in a scoring report; `thumbnail` is a JPEG.

    So is `why`, where it is known: the picture under the heat map of what spoke for its label.
    `oddness` says how odd it is, of the oddest: they may have no label.
    """

    path: str
    label: str
    confidence: float
    thumbnail: bytes
    why: bytes = b""
    outlier_score: float = 0.0


@dataclasses.dataclass(frozen=True)
class Samples:
    """The pictures and failures a scoring report shows."""

    by_class: dict[str, list[Sample]]
    least_certain: list[Sample]
    oddest: list[Sample]
    failures: list[dict[str, str]]


def collect_samples(run: RunResult, source: Storage, output: Storage) -> Samples:
    """What to show of a run, chosen in one pass over its predictions.csv, in flat memory.

    Of each of the largest classes the first eight in the order of their names' digests (so not
    eight pictures of one folder), the least certain, the oddest outliers, the first 200 failures.
    """
    order = sorted(run.counts.by_label.items(), key=lambda item: (-item[1], item[0]))
    classes = [name for name, _ in order[:CLASSES]]
    picked: dict[str, list[tuple[Any, ...]]] = {name: [] for name in classes}
    unsure: list[tuple[Any, ...]] = []
    odd: list[tuple[Any, ...]] = []
    failures: list[dict[str, str]] = []
    for row in _rows(output, run):
        if row.get("outlier") == "True":
            item = (
                float(row["outlier_score"]),
                row["path"],
                row["label"],
                row["confidence"] or "0",
            )
            _push(odd, item, ODDEST)
        if row["status"] == "outlier":
            continue
        if row["status"] != "ok":
            if len(failures) < FAILURES:
                failures.append({key: row[key] for key in ("path", "status", "error")})
            continue
        confidence = float(row["confidence"])
        _push(unsure, (-confidence, row["path"], row["label"]), LEAST_CERTAIN)
        if row["label"] in picked:
            key = (-_spread(row["path"]), row["path"], confidence)
            _push(picked[row["label"]], key, SAMPLES)
    by_class = {
        name: _shown(source, ((path, name, sure) for _, path, sure in sorted(items, reverse=True)))
        for name, items in picked.items()
    }
    least = ((path, label, -minus) for minus, path, label in sorted(unsure, reverse=True))
    outlier_score = {path: value for value, path, *_ in odd}
    oddest = ((path, label, float(sure)) for _, path, label, sure in sorted(odd, reverse=True))
    shown = (
        dataclasses.replace(one, outlier_score=outlier_score[one.path])
        for one in _shown(source, oddest)
    )
    return Samples(by_class, _shown(source, least), [*shown], failures)


def _rows(output: Storage, run: RunResult) -> Iterable[dict[str, str]]:
    with output.open_read(f"{run.folder}predictions.csv") as file:
        yield from csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))


def _push(heap: list[tuple[Any, ...]], item: tuple[Any, ...], most: int) -> None:
    """Keep the `most` largest items."""
    (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, item)


def _spread(path: str) -> int:
    import zlib

    return zlib.crc32(path.encode())


def _shown(source: Storage, chosen: Iterable[tuple[str, str, float]]) -> list[Sample]:
    """The samples with their thumbnails; a file that is gone or changed by now is left out."""
    samples = []
    for path, label, confidence in chosen:
        if small := thumbnail(source, path):
            samples.append(Sample(path, label, confidence, small))
    return samples


def scoring_report(run: RunResult, samples: Samples) -> str:
    """The HTML page of a scoring run (the content of run.json) and its samples."""
    counts = run.counts
    by_label = sorted(counts.by_label.items(), key=lambda item: (-item[1], item[0]))
    most = by_label[0][1] if by_label else 1
    bars = [(name, count, round(100 * count / most, 2)) for name, count in by_label[:BARS]]
    if len(by_label) > BARS:
        rest = sum(count for _, count in by_label[BARS:])
        bars.append(
            (f"{len(by_label) - BARS} more labels", rest, round(100 * min(rest / most, 1), 2))
        )
    histogram = run.confidence_histogram
    tallest = max([*histogram, 1])
    return page("scoring.html").render(
        run=run,
        counts=counts,
        samples=samples,
        explained=any(sample.why for sample in samples.least_certain),
        headline=_scored_headline(counts, by_label),
        failed_by_status=_by_status(counts),
        bars=bars,
        histogram=[round(90 * count / tallest, 2) for count in histogram],
        confident=percent(sum(histogram[-2:]) / max(counts.ok, 1)),
    )


def _scored_headline(counts: Counts, by_label: list[tuple[str, int]]) -> str:
    if not counts.found:
        return "Nothing to score: no image was found"
    few = ", ".join(f"{name} ({count:,})" for name, count in by_label)
    labels = few if len(by_label) <= 4 else f"{len(by_label)} labels"
    images = "image" if counts.found == 1 else "images"
    rejected = f"; {counts.rejected:,} of another kind" if counts.rejected else ""
    failed = f"; {counts.failed:,} failed" if counts.failed else ""
    none = "none has a label" if counts.rejected else "none could be read"
    return f"{counts.found:,} {images} scored: {labels or none}{rejected}{failed}"


def _by_status(counts: Counts) -> str:
    failed = (item for item in counts.by_status.items() if item[0] not in SCORED_STATUSES)
    return ", ".join(f"{count:,} {status}" for status, count in failed)
