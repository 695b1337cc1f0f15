"""Run records for tests."""

from visionflows.monitoring.run_records import Histograms, RecordedModel, RunRecord


def run_record(day: int, labels: dict[str, int], version: str = "1", **more) -> RunRecord:
    """A record of a run in January with these labels."""
    ok = sum(labels.values())
    tally = Histograms(
        statuses={"ok": ok, "unreadable": 5},
        labels=labels,
        confidence={"19": ok - 10, "11": 10},
        outliers={"True": 7, "False": ok - 7},
    )
    return RunRecord(
        **{"schema_version": 1, "started": f"2026-01-{day:02d}T02:00:00.000+00:00", "ended": ""},
        **{"status": "done", "input": "in", "contents": "0" * 64, "runs": [], "seconds": 1.0},
        settings=[],
        model=RecordedModel(
            name="pets", version=version, digest="d", storage="store/models/pets/1"
        ),
        histograms=tally,
        **more,
    )
