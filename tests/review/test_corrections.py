"""corrections.csv: written rows are read again, and an invalid line is named."""

import pytest

from visionflows.errors import StorageError, TableError
from visionflows.review.corrections import (
    COLUMNS,
    Correction,
    existing_locations,
    format_corrections,
    latest_corrections,
    parse_corrections,
    read_corrections,
)
from visionflows.storage import open_storage

A, B, C = "a" * 64, "b" * 64, "c" * 64


def test_written_rows_are_read_again(where, tmp_path):
    name = 'say "x", caf\\xe9\n=1+1.jpg'
    rows = [
        Correction(name, A, "cat", "other", "dog", "0.51", "audit", 100, "m@1", "t", "s3://in/"),
        Correction("b.jpg", B, "", "none", "dog", "0.9", "outlier", 0, "m@1", "t", "/in"),
    ]
    there = open_storage(where(tmp_path))
    there.write("corrections.csv", format_corrections(rows))
    found = read_corrections([f"{str(there).rstrip('/')}/corrections.csv"])
    assert [row[:-1] for row in found] == [row[:-1] for row in rows]
    assert format_corrections(found) == format_corrections(rows)
    assert format_corrections(rows).decode().splitlines()[0] == ",".join(COLUMNS)


def test_three_columns_are_enough_and_unanswered_lines_are_skipped(tmp_path):
    (tmp_path / "some.csv").write_text(f"path,sha256,label\na.jpg,{A.upper()},cat\nb.jpg,{B},\n")
    (found,) = read_corrections([str(tmp_path / "some.csv")])
    assert (found.sha256, found.label, found.right) == (A, "cat", False)
    assert (found.root, found.beside) == (str(tmp_path), str(tmp_path))


def test_a_label_issue_counts_only_with_an_answer(tmp_path, caplog):
    """Its label is a suggestion that nobody has read."""
    head, issue = "path,sha256,label,answer,was,confidence,why", "dog,0.98,label issue"
    lines = [f"a.jpg,{A},cat,,{issue}", f"b.jpg,{B},cat,right,{issue}", f"c.jpg,{C},,none,{issue}"]
    (tmp_path / "label_issues.csv").write_text("\n".join([head, *lines]))
    found = read_corrections([str(tmp_path / "label_issues.csv")])
    assert [(row.path, row.label) for row in found] == [("b.jpg", "cat"), ("c.jpg", "")]
    assert "1 of 3 label issues have no answer, and change nothing; write right" in caplog.text


def test_folders_that_do_not_exist_yet_are_logged(where, tmp_path, caplog):
    """`retrain --corrections OUTPUT` may run before the first scoring."""
    there, away = where(tmp_path / "out"), where(tmp_path / "later")
    open_storage(there).write("run.json", b"{}")
    assert existing_locations([there, away, "some.csv"]) == [there, "some.csv"]
    assert f"{away}: no such folder yet" in caplog.text


def test_an_output_is_read_in_order_and_a_folder_too(where, tmp_path):
    there = open_storage(where(tmp_path / "out"))
    there.write("run.json", b"{}")
    there.write("predictions.csv", b"path\r\n")
    output = str(there)
    assert read_corrections([output]) == []
    for name, label in (("20261126-b", "dog"), ("20261125-a", "cat")):
        there.write(f"corrections/{name}.csv", f"path,sha256,label\na,{A},{label}\n".encode())
    assert [row.label for row in read_corrections([output])] == ["cat", "dog"]
    inside = f"{output.rstrip('/')}/corrections"
    assert [row.label for row in read_corrections([inside])] == ["cat", "dog"]
    with pytest.raises(StorageError, match="no such"):
        read_corrections([f"{output.rstrip('/')}/nowhere.csv"])


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="no such folder; name a"):
        read_corrections([str(tmp_path / "nowhere")])


def test_the_last_answer_for_a_content_counts_and_conflicts_are_reported():
    rows = [
        Correction("1", A, "cat"),
        Correction("2", B, "cat"),
        Correction("3", A, "dog", "other"),
        Correction("4", B, "cat", "right"),
        Correction("5", C, "", "none"),
    ]
    last, differing = latest_corrections(rows)
    assert {sha256: row.path for sha256, row in last.items()} == {A: "3", B: "4", C: "5"}
    assert differing == ["3"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("a.jpg,123,cat,,", "line 2: 'a.jpg' has no sha256 of 64 hex digits"),
        (f"a.jpg,{A},cat,perhaps,", "the answer 'perhaps'; write right, other, none, empty or"),
        (f"a.jpg,{A},cat,none,", "the answer none and the label 'cat'; empty one of them"),
        (f"a.jpg,{A},,right,", "the answer right and no label"),
        (f"a.jpg,{A},cat,,many", "drawn is 'many'"),
    ],
)
def test_an_invalid_line_is_an_error(line, message):
    with pytest.raises(TableError, match=message):
        parse_corrections("x.csv", f"path,sha256,label,answer,drawn\n{line}\n".encode())


@pytest.mark.parametrize(
    "data, message",
    [
        (b"path,label\n", "lacks the column sha256; give the corrections.csv"),
        (b"\xff\xfe", "not a UTF-8 CSV"),
        (b"", "lacks the column label and path and sha256"),
    ],
)
def test_an_invalid_file_is_an_error(data, message):
    with pytest.raises(TableError, match=message):
        parse_corrections("x.csv", data)
