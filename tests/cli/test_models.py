"""`visionflows models`: tables, JSON, and rollbacks."""

import getpass
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from versions import another, changed, renamed

from visionflows.cli import main as cli
from visionflows.cli import program
from visionflows.storage import open_storage

DATASET = {
    **{"name": "shapes", "sha256": None, "fingerprint": "5c1a"},
    **{"images": 72, "train": 54, "valid": 18, "skipped": 0},
}


@pytest.fixture
def run_command(monkeypatch, capsys, tmp_path):
    """The output of a command, run in this process in the test's folder; it must exit with 0."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["visionflows", *map(str, words)])
        assert program.status_of(cli.app) == status
        shown = capsys.readouterr()
        return shown.err if status else shown.out

    return run


@pytest.fixture
def store(trained, tmp_path) -> Path:
    """A store with two versions of the shapes, the newer one in `latest`."""
    folder = tmp_path / "store"
    dataset = DATASET | {"source": str(trained.dataset)}
    for version in ("20260101T000000000Z-old", "20260102T030405678Z-new"):
        another(trained, folder, version)
        changed(folder, version, dataset=dataset)
    renamed(folder, "20260101T000000000Z-old", ["square", "stripes", "circle"])
    changed(
        folder,
        "20260102T030405678Z-new",
        lineage={"parent": "20260101T000000000Z-old", "flow_run": "5c1a"},
    )
    open_storage(folder).write("models/shapes/aliases/latest", b"20260102T030405678Z-new\n")
    return folder


OLD, NEW = "shapes@20260101T000000000Z-old", "shapes@20260102T030405678Z-new"


def test_the_list_is_a_table_newest_first(run_command, store, where):
    lines = run_command("models", "list", "--store", where(store)).splitlines()
    assert lines[0].split("  ")[0] == "version"
    assert [line.split()[0] for line in lines[2:]] == [NEW, OLD]
    for words in ("latest", "test_resnet", "2026-01-02 03:04", "72", "shapes"):
        assert words in lines[2]
    assert "latest" not in lines[3]
    rows = json.loads(run_command("models", "list", "--json", "--store", where(store)))
    assert [f"{row['name']}@{row['version']}" for row in rows] == [NEW, OLD]
    assert rows[0]["aliases"] == ["latest"]
    assert rows[0]["trained"] == "2026-01-02T03:04:05.678+00:00"
    assert rows[0]["lineage"] == {"parent": "20260101T000000000Z-old", "flow_run": "5c1a"}
    assert (rows[0]["images"], rows[0]["architecture"]) == (72, "test_resnet")
    assert rows[1]["lineage"] == {"parent": "", "flow_run": ""}


def test_an_empty_store_says_so(run_command):
    assert run_command("models", "list", "--store", "nowhere").startswith(
        "no models in nowhere yet;"
    )
    assert json.loads(run_command("models", "list", "--json", "--store", "nowhere")) == []


def test_show_prints_a_page_or_model_json(run_command, trained, store, where):
    page = run_command("models", "show", NEW, "--store", where(store))
    for words in ("Metrics", "Data", "Lineage", "Settings", "Evidence", "Classes", "Files"):
        assert f"\n{words}\n" in page
    assert page.startswith(f"{NEW}  (latest)\n")
    for words in (OLD, "5c1a", str(trained.dataset), "54 training", "stripes", "report.html"):
        assert words in page
    assert f"{trained.metrics['error_rate']:.4f}" in page
    output = run_command("models", "show", NEW, "--json", "--store", where(store))
    assert json.loads(output) == json.loads(
        (store / "models" / NEW.replace("@", "/") / "model.json").read_text()
    )


def test_a_rollback_is_a_promotion_in_the_history(run_command, store, where):
    at = ("--store", where(store))
    assert "no promotion yet" in run_command("models", "history", "shapes", *at)
    assert "production was" not in run_command("models", "promote", OLD, *at)
    assert f"production was {OLD};" in run_command("models", "promote", NEW, *at)
    kept = json.loads(run_command("models", "promote", OLD, "--json", *at))
    assert (kept["version"], kept["before"]) == (OLD.split("@")[1], NEW.split("@")[1])
    lines = run_command("models", "history", "shapes", *at).splitlines()
    assert [line.split()[3] for line in lines[2:]] == [one.split("@")[1] for one in (OLD, NEW, OLD)]
    assert all(getpass.getuser() in line for line in lines[2:])
    rows = json.loads(run_command("models", "history", "shapes@latest", "--json", *at))
    assert rows[0] == kept
    assert [row["before"] for row in rows] == [NEW.split("@")[1], OLD.split("@")[1], ""]
    assert "production" in run_command("models", "list", *at).splitlines()[3]
    page = run_command("models", "show", NEW, *at)
    assert page[page.index("Promotions") :].count("production") == 1
    assert "dogs: no such model" in run_command("models", "history", "dogs", *at, status=1)


def test_compare_prints_a_table_and_writes_a_page(run_command, store, where, tmp_path):
    at = ("--store", where(store))
    shown = run_command("models", "compare", "shapes", OLD, *at)
    assert "A is better than B on 18 images unseen by both" in shown
    assert "McNemar" in shown
    assert shown.endswith("\npage  compare.html\n")
    page = (tmp_path / "compare.html").read_text()
    assert NEW in page
    assert "data:image/jpeg" in page
    (tmp_path / "compare.html").unlink()
    found = json.loads(run_command("models", "compare", NEW, OLD, "--json", *at))
    assert (found["a"], found["b"], found["images"], found["better"]) == (NEW, OLD, 18, "a")
    assert not (tmp_path / "compare.html").exists()
    run_command(
        "models", "compare", NEW, OLD, "--json", "--output", where(tmp_path / "x/p.html"), *at
    )
    again = (tmp_path / "x/p.html").read_text()
    assert without_links(again) == without_links(page)


def without_links(page: str) -> str:
    """A page without its links, which depend on its location."""
    found, count = re.subn(r'<nav[^>]* pages">.*?</nav>', "", page, flags=re.DOTALL)
    assert count == 1
    return found


def test_an_unwritable_page_fails_before_the_comparison(run_command, store, tmp_path):
    (tmp_path / "a-file").write_bytes(b"")
    words = ("models", "compare", NEW, "no-such-model", "--output", "a-file/x.html")
    assert "a-file" in run_command(*words, "--store", store, status=1)


def test_missing_images_are_one_line_with_a_fix(run_command, trained, store, tmp_path):
    moved = shutil.copytree(trained.dataset, tmp_path / "moved")
    gone = DATASET | {"source": str(tmp_path / "was-here")}
    changed(store, "20260102T030405678Z-new", dataset=gone)
    line = run_command("models", "compare", NEW, OLD, "--store", store, status=1)
    gone_line = f"visionflows: {tmp_path}/was-here: the images of shapes are no longer there"
    assert line.startswith(gone_line)
    assert line.endswith("with --data\n")
    assert line.count("\n") == 1
    assert "18 images" in run_command(
        "models", "compare", NEW, OLD, "--data", moved, "--store", store
    )
