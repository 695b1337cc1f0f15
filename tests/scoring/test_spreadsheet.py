"""spreadsheet.csv has every row and no formulas; predictions.csv is unchanged."""

import csv
import io
import re

import pytest
from conftest import shape

from visionflows.escaping import escape_formula
from visionflows.scoring.local_run import score_folder
from visionflows.scoring.settings import ScoreSettings

FORMULAS = [
    "=1+1.png",
    "+1.png",
    "-2+3.png",
    "@SUM(A1).png",
    "-33.856917+A1.png",
    " =1.png",
    "＝1.png",
]
TEXTS = ["a=1.png", "1-2.png", "'1.png", "b/=1.png", "käse.png"]


@pytest.mark.parametrize("cell", FORMULAS)
def test_cells_that_begin_like_a_formula_become_text(cell):
    assert escape_formula(cell) == f"'{cell}"


@pytest.mark.parametrize(
    "cell",
    ["x;=1+1;.png", "x; +1", "x|@SUM(A1)", "x\t=1", "x\r\n-2", 'x;"=1"', "\t=1.png", "x;＝1"],
)
def test_other_separators_create_no_formula(cell):
    """Excel separates cells by `;` in locales with decimal commas, and csv quotes none of these."""
    escaped = escape_formula(cell)
    assert escaped.replace("'", "") == cell
    for part in re.split(r'[;|\t\r\n"]', escaped):
        assert not part.lstrip(" ").startswith(("=", "+", "-", "@", "＝"))


@pytest.mark.parametrize("cell", ["", "0.5", "-33.856917", *TEXTS])
def test_other_cells_are_unchanged(cell):
    assert escape_formula(cell) == cell


def test_spreadsheet_csv_is_written_beside_the_result(trained, where, tmp_path):
    for number, name in enumerate([*FORMULAS, *TEXTS]):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape("circle", number).save(path)
    (tmp_path / "in/=bad.png").write_bytes(b"no picture")
    plain = score(trained, where, tmp_path, spreadsheet=False)
    assert not (tmp_path / "out/spreadsheet.csv").exists()

    run = score(trained, where, tmp_path, spreadsheet=True)
    assert read(tmp_path, "predictions.csv") == plain
    data = (tmp_path / "out/spreadsheet.csv").read_bytes()
    assert run["files"]["spreadsheet.csv"]["bytes"] == len(data)
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert rows == [[escape_formula(cell) for cell in row] for row in plain]
    names = {row[0] for row in rows}
    assert {"'=1+1.png", "'=bad.png", "b/=1.png"} <= names

    score(trained, where, tmp_path, spreadsheet=False)
    assert not (tmp_path / "out/spreadsheet.csv").exists()


def score(trained, where, tmp_path, spreadsheet):
    locations = where(tmp_path / "in"), where(tmp_path / "out")
    settings = ScoreSettings(spreadsheet=spreadsheet, max_error_rate=1)
    run = score_folder(locations[0], "shapes", locations[1], where(trained.store), settings)
    return run if spreadsheet else read(tmp_path, "predictions.csv")


def read(tmp_path, name):
    text = (tmp_path / "out" / name).read_bytes().decode()
    return list(csv.reader(io.StringIO(text, newline="")))
