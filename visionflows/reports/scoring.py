"""The report of a scoring run: counts, failures, outliers, labels, confidence and examples."""

import csv
import dataclasses
import io
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from visionflows.label_sets import count_labels, split_labels
from visionflows.reports.links import link_to_run
from visionflows.reports.rendering import describe, render
from visionflows.reports.thumbnails import read_thumbnail
from visionflows.review.audit import Estimate
from visionflows.review.sampling import Smallest
from visionflows.scoring.schema import RunResult
from visionflows.storage.base import Storage

SAMPLES, LEAST_CERTAIN, OUTLIERS, FAILURES = 8, 12, 12, 200  # rows that are shown
CLASSES, AUDITS, PAIRS = 24, 30, 20
_AUDIT_SECTION = re.compile("<!-- audit -->.*<!-- /audit -->", re.DOTALL)

Row = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Sample:
    """A photo in the report; `thumbnail` and `heat_map` (Grad-CAM, empty if unknown) are JPEGs."""

    path: str
    label: str
    confidence: float
    thumbnail: bytes
    heat_map: bytes = b""
    outlier_score: float = 0.0


class LabelCounts(NamedTuple):
    """Of several labels: files by label, by number of labels, and by pair of labels."""

    by_label: dict[str, int]
    by_number: dict[int, int]
    together: list[tuple[str, str, int]]


@dataclasses.dataclass(frozen=True)
class Samples:
    """The photos and failures that a report shows."""

    by_class: dict[str, list[Sample]]
    least_certain: list[Sample]
    outliers: list[Sample]
    failures: list[Row]


def collect_samples(run: RunResult, source: Storage, output: Storage) -> Samples:
    """The photos and failures to show, from one pass over predictions.csv in flat memory.

    For each of the most frequent labels, eight photos with the smallest CRC-32 of their path, so
    that they come from several folders; the least certain; the outliers with the highest score;
    the first 200 failures. A photo that is missing or unreadable by now is left out.
    """
    order = sorted(run.counts.by_label.items(), key=lambda item: (-item[1], item[0]))
    by_class = {name: Smallest[Row](SAMPLES) for name, _ in order[:CLASSES]}
    least_certain, outliers = Smallest[Row](LEAST_CERTAIN), Smallest[Row](OUTLIERS)
    failures: list[Row] = []
    for row in _read_rows(run, output):
        path = row["path"]
        if row.get("outlier") == "True":
            outliers.add(-float(row["outlier_score"]), path, row)
        if row["status"] == "ok":
            least_certain.add(float(row["confidence"]), path, row)
            if row["label"] in by_class:
                by_class[row["label"]].add(zlib.crc32(path.encode()), path, row)
        elif row["status"] != "outlier" and len(failures) < FAILURES:
            failures.append({key: row[key] for key in ("path", "status", "error")})
    return Samples(
        {name: _read_samples(source, smallest.rows()) for name, smallest in by_class.items()},
        _read_samples(source, least_certain.rows()),
        _read_samples(source, outliers.rows()),
        failures,
    )


def count_several(by_text: Mapping[str, int]) -> LabelCounts:
    """The counts of files by their labels, from those by all labels of a file."""
    by_number, together = Counter[int](), Counter[tuple[str, str]]()
    for text, files in by_text.items():
        labels = split_labels(text)
        by_number[len(labels)] += files
        for pair in itertools.combinations(labels, 2):
            together[pair] += files
    pairs = sorted(together.items(), key=lambda item: (-item[1], item[0]))
    by_label = dict(count_labels(by_text).most_common())
    return LabelCounts(
        by_label, dict(sorted(by_number.items())), [(*pair, files) for pair, files in pairs[:PAIRS]]
    )


def _read_rows(run: RunResult, output: Storage) -> Iterable[Row]:
    with output.open_read(f"{run.folder}predictions.csv") as file:
        yield from csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))


def _read_samples(source: Storage, rows: Iterable[Row]) -> list[Sample]:
    samples = []
    for row in rows:
        if thumbnail := read_thumbnail(source, row["path"]):
            confidence = float(row["confidence"] or 0)
            score = float(row.get("outlier_score") or 0)
            sample = Sample(row["path"], row["label"], confidence, thumbnail, outlier_score=score)
            samples.append(sample)
    return samples


def render_scoring_report(run: RunResult, samples: Samples) -> str:
    """The HTML report of a scoring run (the content of run.json) with its samples."""
    return render(
        "scoring.html",
        run=run,
        counts=run.counts,
        samples=samples,
        links=link_to_run(run, "report.html"),
        headline=describe("scored", run.counts),
        several=count_several(run.counts.by_label) if run.model.multi_label else None,
    )


def insert_audits(report: str, estimates: Sequence[Estimate]) -> str:
    """A rendered scoring report with these estimates in place of those it had."""
    section = render("audit.html", estimates=estimates[:AUDITS]).strip()
    return _AUDIT_SECTION.sub(lambda _: section, report, count=1)
