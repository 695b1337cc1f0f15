"""Estimate the cost of scoring a billion images: the table of docs/explanation/scale.md.

    python bench/scale.py

That page names the source of every figure: measured, cited or assumed.
"""

from typing import NamedTuple

SHARD = 1000  # files
# Measured here, on two cores: bench/results/2026-11-26-score-*.json, …-million.json.
RATE_A_CORE = {"tf_efficientnet_lite0": 159.5 / 2, "resnet34": 58.2 / 2}  # images/s, 440 × 374
ROW = 45.4  # bytes of predictions.csv, two classes
SPOOLED = 79  # bytes of the listing's file, names of 31 characters
SHARD_MEMORY = 361  # bytes of the driver's memory
TASK_RUNS = 105
WRITES = 3  # objects a part: .csv, .files, .json
# Cited: S3 prices (us-east-1, dollars), S3 request limits (a second, a partitioned prefix), and the
# resnet18 rate of a GPU.
PUT_OR_LIST, GET, INVENTORY = 0.005 / 1e3, 0.0004 / 1e3, 0.0025 / 1e6
GETS = 5500
RATE_A_GPU = 4142 / 8
# Assumed.
LISTED = 1000 / 0.1  # keys/s: pages of 1,000, a tenth of a second each, in sequence
CORE_HOUR = 0.04  # dollars


class Plan(NamedTuple):
    """The cost of scoring `images` within `hours`."""

    images: int
    hours: float

    def lines(self) -> list[tuple[str, str]]:
        """The lines of the table."""
        shards = self.images / SHARD
        rate = self.images / (self.hours * 3600)
        lines = [
            ("shards", f"{shards:,.0f}"),
            ("LIST, one page after another", f"{self.images / LISTED / 3600:,.1f} h"),
            ("the listing's file on the driver's disk", f"{self.images * SPOOLED / 1e9:,.1f} GB"),
            ("the driver's memory for shards", f"{shards * SHARD_MEMORY / 1e6:,.1f} MB"),
            ("predictions.csv", f"{self.images * ROW / 1e9:,.1f} GB"),
            ("GET a second", f"{rate:,.0f}"),
            ("prefixes that this takes", f"{max(rate / GETS, 1):,.0f}"),
            ("PUT a second", f"{rate / SHARD * WRITES:,.1f}"),
            ("Prefect's task runs", f"{TASK_RUNS}"),
        ]
        for network, each in RATE_A_CORE.items():
            cores = rate / each
            hours = self.images / each / 3600
            text = f"{cores:,.0f} for {self.hours:g} h: {hours:,.0f} hours"
            lines.append((f"cores, {network}", text))
        gpus, hours = rate / RATE_A_GPU, self.images / RATE_A_GPU / 3600
        lines.append(("GPUs, resnet18", f"{gpus:,.0f} for {self.hours:g} h: {hours:,.0f} hours"))
        requests = self.images * GET + shards * WRITES * PUT_OR_LIST
        return [
            *lines,
            ("S3: GET and PUT", f"${requests:,.2f}"),
            ("S3: LIST", f"${self.images / 1000 * PUT_OR_LIST:,.2f}"),
            ("S3: an inventory instead", f"${self.images * INVENTORY:,.2f}"),
            ("cores, lite0", f"${self._core_hours() * CORE_HOUR:,.0f}"),
        ]

    def _core_hours(self) -> float:
        return self.images / RATE_A_CORE["tf_efficientnet_lite0"] / 3600


def table(hours: float = 8) -> str:
    """The table in Markdown, with one column a size."""
    sizes = 1_000_000, 100_000_000, 1_000_000_000
    columns = [dict(Plan(images, hours).lines()) for images in sizes]
    head = "| | " + " | ".join(f"{images:,}" for images in sizes) + " |"
    rows = [
        f"| {name} | " + " | ".join(column[name] for column in columns) + " |"
        for name in columns[0]
    ]
    return "\n".join([head, "| --- |" + " ---: |" * len(sizes), *rows])


if __name__ == "__main__":
    print(table())
