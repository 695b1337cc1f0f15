"""`visionflows history`: the run history as a page, a table and JSON."""

import json
import re
import sys

import pytest
from conftest import write_shapes

from visionflows.cli import main as cli
from visionflows.cli import program
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings
from visionflows.storage.local import LocalStorage


@pytest.fixture
def outputs(trained, tmp_path, monkeypatch):
    """Two runs in an output, and one in another output next to it."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for first, name in ((0, "a"), (100, "a"), (200, "b")):
        folder = write_shapes(tmp_path / f"in-{name}", each=8, first_seed=first)
        settings = ScoreSettings(only_new=True)
        score_folder(
            str(folder), "shapes", str(tmp_path / "scores" / name), trained.store, settings
        )
    (tmp_path / "scores/a/history.html").unlink()
    return tmp_path / "scores"


@pytest.fixture
def run_command(monkeypatch, capsys):
    def run(*words: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["visionflows", "history", *map(str, words)])
        assert program.status_of(cli.app) == status
        shown = capsys.readouterr()
        return shown.err if status else shown.out

    return run


def test_while_a_run_writes_there_no_page_is_written(run_command, outputs):
    with LocalStorage(outputs / "a").lock(".lock"):
        assert run_command(outputs / "a").splitlines()[-1].startswith("page  not written: ")
    assert not (outputs / "a/history.html").exists()


def test_history_prints_a_table_and_writes_a_page(run_command, outputs, tmp_path):
    lines = run_command(outputs / "a").splitlines()
    columns = (
        "run (UTC)",
        "model",
        "files",
        "failures",
        "mean confidence",
        "labels",
        "drift in",
    )
    assert re.split(r"  +", lines[0].strip()) == [*columns]
    rows = [line for line in lines if "shapes@" in line]
    assert len(rows) == 2
    assert all(" 24 " in row and "0 %" in row and "circle" in row for row in rows)
    assert lines[-1] == f"page  {outputs}/a/history.html"
    assert "2 runs, no drift" in (outputs / "a/history.html").read_text()
    run_records = json.loads(run_command(outputs / "a", "--json"))
    assert [run_record["histograms"]["statuses"] for run_record in run_records] == [{"ok": 24}] * 2
    assert len(json.loads(run_command(outputs, "--json"))) == 3
    assert not (outputs / "history.html").exists()
    assert "3 runs" not in run_command(outputs)
    assert "3 runs, no drift" in (outputs / "history.html").read_text()
    line = f"{tmp_path}/in-a: no run is recorded there; the next scoring run records one\n"
    assert run_command(tmp_path / "in-a", status=1) == f"visionflows: {line}"
