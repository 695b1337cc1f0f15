"""Corrections of a run are kept in its output, and its report shows the audit."""

import json
import shutil
import time

import pytest
from conftest import write_shapes
from typer.testing import CliRunner

from visionflows.cli.main import app
from visionflows.errors import RunError, TableError
from visionflows.monitoring.run_records import read_run_records
from visionflows.reports.scoring import insert_audits
from visionflows.review.corrections import format_corrections, read_corrections
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.review_results import add_corrections, read_audits, review_questions
from visionflows.storage import open_storage


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("reviewed")
    folder = write_shapes(root / "in", each=12, first_seed=700)
    score_folder(str(folder), "shapes", str(root / "out"), trained.store)
    return folder, root / "out"


@pytest.fixture
def output(scored, tmp_path):
    """The output of a run without corrections."""
    return shutil.copytree(scored[1], tmp_path / "out")


def reviewed_20(output, wrong: int = 3) -> bytes:
    """The corrections.csv of a person who reviewed 20 images, some with a wrong label."""
    rows = review_questions(str(output))[1][:20]
    return format_corrections(
        row._replace(label="circle" if at < wrong else row.was)._replace(
            was="square" if at < wrong else row.was, answer="other" if at < wrong else "right"
        )
        for at, row in enumerate(rows)
    )


def test_the_report_shows_the_estimated_accuracy(output, tmp_path, where):
    before = (output / "report.html").read_text()
    assert "How right it really is" not in before
    (tmp_path / "corrections.csv").write_bytes(reviewed_20(output))
    saved = str(tmp_path / "corrections.csv")
    (found,) = add_corrections(where(output), [saved])
    assert (found.right, found.reviewed, found.drawn) == (17, 20, 36)
    page = (output / "report.html").read_text()
    assert "85 %" in page
    assert "64 % to 94.8 %" in page
    assert add_corrections(where(output), [saved]) == [found]  # repeating it changes nothing
    (run_record,) = read_run_records(open_storage(where(output)))
    assert (run_record.audit.accuracy, run_record.audit.images) == (found.share, found.reviewed)
    assert "Audited accuracy" in (output / "history.html").read_text()
    assert len(list((output / "corrections").glob("*.csv"))) == 1
    assert (output / "report.html").read_text() == page
    assert insert_audits(page, []) == before


def test_a_later_correction_replaces_an_earlier_one(output, tmp_path):
    """Also if the third file equals the first."""
    for number, wrong in enumerate((3, 9, 3)):
        (tmp_path / "corrections.csv").write_bytes(reviewed_20(output, wrong))
        (found,) = add_corrections(str(output), [str(tmp_path / "corrections.csv")])
        assert found.right == 20 - wrong
        assert len(list((output / "corrections").glob("*.csv"))) == number + 1


def test_an_audit_is_added_to_the_latest_record(scored, output, trained, tmp_path):
    """A run without new rows adds no record, so the audit goes to the earlier one."""
    folder, _ = scored
    (run_record,) = read_run_records(open_storage(output))
    time.sleep(1.1)  # run ends have a resolution of one second
    again = score_folder(str(folder), "shapes", str(output), trained.store)
    assert again["ended"] > run_record.ended
    (tmp_path / "corrections.csv").write_bytes(reviewed_20(output))
    (found,) = add_corrections(str(output), [str(tmp_path / "corrections.csv")])
    (run_record,) = read_run_records(open_storage(output))
    assert run_record.audit.accuracy == found.share


def test_a_missing_report_is_logged(output, tmp_path, caplog):
    (tmp_path / "corrections.csv").write_bytes(reviewed_20(output))
    (output / "report.html").unlink()
    (found,) = add_corrections(str(output), [str(tmp_path / "corrections.csv")])
    assert found.right == 17
    assert "report.html: is missing; the next run's report shows" in caplog.text
    assert read_run_records(open_storage(output))[0].audit


def test_the_next_report_shows_the_audit(scored, output, trained, tmp_path):
    folder, _ = scored
    (tmp_path / "corrections.csv").write_bytes(reviewed_20(output))
    add_corrections(str(output), [str(tmp_path / "corrections.csv")])
    score_folder(str(folder), "shapes", str(output), trained.store)
    assert "64 % to 94.8 %" in (output / "report.html").read_text()
    assert len(read_audits(open_storage(output))) == 1


def test_an_invalid_corrections_file_does_not_fail_a_run(output, caplog):
    (output / "corrections").mkdir()
    (output / "corrections/notes.csv").write_text("what,ever\n1,2\n")
    assert read_audits(open_storage(output)) == []
    assert "notes.csv: lacks the column" in caplog.text
    with pytest.raises(TableError, match="lacks the column"):
        read_corrections([str(output)])


def test_corrections_need_a_finished_run(tmp_path):
    (tmp_path / "a.csv").write_text("path,sha256,label\n")
    with pytest.raises(RunError, match="no run has ended there"):
        add_corrections(str(tmp_path / "nowhere"), [str(tmp_path / "a.csv")])
    assert not (tmp_path / "nowhere").exists()


def output_of(*arguments: str) -> str:
    """The output of a command."""
    result = CliRunner().invoke(app, ["corrections", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_commands_print_the_same(output, tmp_path):
    (tmp_path / "c.csv").write_bytes(reviewed_20(output))
    assert "17 of 20 right: 85.0 %" in output_of("add", str(output), str(tmp_path / "c.csv"))
    assert output_of("audit", str(output)) == output_of("audit", str(tmp_path / "c.csv"))
    (row,) = json.loads(output_of("audit", str(output), "--json"))
    assert (row["accuracy"], row["drawn"]) == (0.85, 36)
    (tmp_path / "empty").mkdir()
    assert "no image of an audit" in output_of("audit", str(tmp_path / "empty"))


def test_tasks_for_label_studio_come_back_as_corrections(scored, output, tmp_path):
    folder, _ = scored
    tasks = json.loads(output_of("to-label-studio", str(output)))
    assert {task["data"]["image"] for task in tasks} == {
        str(path) for path in folder.rglob("*.png")
    }
    assert '<Choice value="stripes"/>' in output_of("to-label-studio", str(output), "--labelling")
    for task in tasks:
        task["annotations"] = [task["predictions"][0]]  # a person confirms each
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    (tmp_path / "c.csv").write_text(output_of("from-label-studio", str(tmp_path / "export.json")))
    (found,) = add_corrections(str(output), [str(tmp_path / "c.csv")])
    assert (found.right, found.reviewed) == (36, 36)
