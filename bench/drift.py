"""How often ordinary and unusual runs raise a drift warning: real rows, drawn at random.

    python bench/drift.py --photos inbox --model pets --store store

The photos are scored once, and so are copies of some: blurred, cut short, saved as PNG. A run is
some of these rows, drawn with replacement. It is counted, compared and recorded as `score` does it,
and the next run reads the record from the disk.
"""

import argparse
import io
import logging
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageFilter
from record import hardware, versions, write_result

from visionflows.models.artifact import load_model
from visionflows.models.registry import find_model
from visionflows.monitoring.drift import ALPHA, WINDOW
from visionflows.scoring.columns import csv_rows
from visionflows.scoring.counts import NewRows
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.parts import read_parts
from visionflows.scoring.run_history import RunHistory
from visionflows.scoring.schema import RunResult
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage import open_storage

Row = tuple[list[str], int, str]  # its cells, and the size and sha256 of its file
COPIES, FAILING = 300, 0.005  # of each kind; the share of an ordinary run's files that fail
SIZES, EARLY = (200, 500, 1000), (5, 14)


class Runs:
    """Rows to draw runs from, by kind, and an output whose history they enter."""

    def __init__(self, run: RunResult, header: list[str], rows: dict[str, list[Row]], seed: int):
        self.run, self.header, self.rows = run, header, rows
        self.random, self.count = random.Random(seed), 0

    def ordinary(self, files: int) -> list[Row]:
        """Rows of a run like any other."""
        return [self._one("plain") for _ in range(files)]

    def shares(self, first: float) -> Callable[[int], list[Row]]:
        """Runs in which this share has the first label."""
        return lambda files: [self._labelled(self.random.random() < first) for _ in range(files)]

    def part(self, kind: str, share: float) -> Callable[[int], list[Row]]:
        """Runs in which this share is of another kind."""
        return lambda files: [
            self._one(kind if self.random.random() < share else "plain") for _ in range(files)
        ]

    def history(self, output: str, model, rows: list[Row]) -> RunHistory:
        """The history with a run of these rows, which is not saved yet."""
        self.count += 1
        began = f"2026-01-01T00:00:00.{self.count:06d}+00:00"
        rows_of_run = NewRows(self.header)
        for cells, size, sha256 in rows:
            rows_of_run.add(cells, size, sha256)
        history = RunHistory(open_storage(output), model)
        history.with_drift(self.run, began, {began: rows_of_run.summary(began)})
        return history

    def _one(self, kind: str) -> Row:
        if kind == "plain" and self.random.random() < FAILING:
            kind = "cut"
        return self.random.choice(self.rows[kind])

    def _labelled(self, first: bool) -> Row:
        label = self.run.model.classes[0]
        while (row := self._one("plain"))[0][2] and (row[0][2] == label) != first:
            pass
        return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--store", default="store")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--results", default="bench/results")
    options = parser.parse_args()
    logging.getLogger("visionflows").setLevel(logging.ERROR)  # the warnings are counted
    model = load_model(find_model(options.model, options.store))
    with tempfile.TemporaryDirectory() as folder:
        run, header, rows = _scored(options, Path(folder))
        by_seed = [
            _seed(Runs(run, header, rows, seed), model, f"{folder}/{seed}", options.runs)
            for seed in range(1, options.seeds + 1)
        ]
    result = {
        "network": options.model,
        "rows": {kind: len(some) for kind, some in rows.items()},
        "labels": dict(run.counts.by_label),
        "alpha_of_a_run": ALPHA,
        "window": WINDOW,
        "run_records": options.runs,
        "files_of_a_run": "200 to 1,000",
        "by_seed": by_seed,
    }
    write_result(
        {"hardware": hardware(), "versions": versions(), **result}, options.results, "drift"
    )


def _seed(draws: Runs, model, output: str, count: int) -> dict:
    """Warnings of ordinary runs, of runs whose shares vary by chance, and of unusual runs."""
    found: dict = {}
    for name, spread in (("ordinary", 0.0), ("shares_vary_by_0.05", 0.05)):
        found[name] = 0
        for number in range(count):
            files = draws.random.randint(SIZES[0], SIZES[-1])
            draw = draws.shares(draws.random.gauss(0.5, spread)) if spread else draws.ordinary
            history = draws.history(f"{output}/{name}", model, draw(files))
            assert history.record
            found[name] += bool(history.record.drifted)
            history.save()
            if name == "ordinary" and number + 1 in EARLY:
                warned = _warned(draws, model, output, draws.shares(0.7), SIZES[1])
                found[f"shares_70_30_after_{number + 1}_runs"] = {SIZES[1]: warned}
    unusual = {
        "shares_60_40": draws.shares(0.6),
        "shares_70_30": draws.shares(0.7),
        "5_%_cut_short": draws.part("cut", 0.05),
        "30_%_blurred": draws.part("blurred", 0.3),
        "all_blurred": draws.part("blurred", 1.0),
        "half_as_png": draws.part("png", 0.5),
    }
    for name, draw in unusual.items():
        found[name] = {files: _warned(draws, model, output, draw, files) for files in SIZES}
    return found


def _warned(draws: Runs, model, output: str, draw, files: int) -> str:
    """Of ten unusual runs, how many raised a warning: `10 of 10: labels`."""
    quantities: list[str] = []
    warned = 0
    for _ in range(10):
        run_record = draws.history(f"{output}/ordinary", model, draw(files)).record
        assert run_record
        warned += bool(run_record.drifted)
        quantities += run_record.drifted
    return f"{warned} of 10: {', '.join(sorted(set(quantities)))}"


def _scored(options, folder: Path) -> tuple[RunResult, list[str], dict[str, list[Row]]]:
    """The run of the photos, the header of its rows, and the rows by kind."""
    photos = sorted(Path(options.photos).glob("*.jpg"))
    kinds = {"blurred": (_blurred, "jpg"), "cut": (_cut, "jpg"), "png": (_png, "png")}
    for kind, (change, ending) in kinds.items():
        (folder / kind).mkdir()
        for path in photos[:COPIES]:
            (folder / kind / f"{path.stem}.{ending}").write_bytes(change(path.read_bytes()))
    rows = {}
    for kind in ("plain", *kinds):
        where = options.photos if kind == "plain" else f"{folder}/{kind}"
        settings, output = ScoreSettings(max_error_rate=1.0), f"{folder}/scored-{kind}"
        score_folder(where, options.model, output, options.store, settings)
        rows[kind] = _rows(output)
    data = (folder / "scored-plain/run.json").read_bytes()
    header = (folder / "scored-plain/predictions.csv").read_text().splitlines()[0].split(",")
    return RunResult.read(data), header, rows


def _rows(output: str) -> list[Row]:
    where = open_storage(output)
    names = [name for name in where.names("parts") if name.endswith(".csv")]
    return [
        (cells, file.size, file.sha256)
        for part in read_parts(where, [f"parts/{name.removesuffix('.csv')}" for name in names])
        if part
        for cells, file in zip(csv_rows(part.data), part.files, strict=True)
    ]


def _saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _blurred(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return _saved(image.filter(ImageFilter.GaussianBlur(image.width / 30)), "JPEG")


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 3]


def _png(data: bytes) -> bytes:
    return _saved(Image.open(io.BytesIO(data)).convert("RGB"), "PNG")


if __name__ == "__main__":
    main()
