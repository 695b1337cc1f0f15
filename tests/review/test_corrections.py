"""corrections.csv: what is written is read again, what cannot be used is said by its line."""

import pytest

from visionflows.errors import StorageError, TableError
from visionflows.review.corrections import (
    COLUMNS,
    Correction,
    last_of_each,
    parsed,
    read_corrections,
    written,
)
from visionflows.storage import open_storage

A, B, C = "a" * 64, "b" * 64, "c" * 64


def test_what_is_written_is_read_again(where, tmp_path):
    name = 'say "x", caf\\xe9\n=1+1.jpg'
    rows = [
        Correction(name, A, "cat", "other", "dog", "0.51", "audit", 100, "m@1", "t", "s3://in/"),
        Correction("b.jpg", B, "", "none", "dog", "0.9", "outlier", 0, "m@1", "t", "/in"),
    ]
    there = open_storage(where(tmp_path))
    there.write("corrections.csv", written(rows))
    found = read_corrections([f"{str(there).rstrip('/')}/corrections.csv"])
    assert [one[:-1] for one in found] == [one[:-1] for one in rows]
    assert written(found) == written(rows)
    assert written(rows).decode().splitlines()[0] == ",".join(COLUMNS)


def test_three_columns_are_enough_and_an_open_line_says_nothing(tmp_path):
    (tmp_path / "some.csv").write_text(f"path,sha256,label\na.jpg,{A.upper()},cat\nb.jpg,{B},\n")
    (found,) = read_corrections([str(tmp_path / "some.csv")])
    assert (found.sha256, found.label, found.right) == (A, "cat", False)
    assert (found.root, found.beside) == (str(tmp_path), str(tmp_path))


def test_an_output_is_read_in_order_and_a_folder_too(where, tmp_path):
    there = open_storage(where(tmp_path / "out"))
    there.write("run.json", b"{}")
    there.write("predictions.csv", b"path\r\n")
    output = str(there)
    assert read_corrections([output]) == []
    for name, label in (("20261126-b", "dog"), ("20261125-a", "cat")):
        there.write(f"corrections/{name}.csv", f"path,sha256,label\na,{A},{label}\n".encode())
    assert [one.label for one in read_corrections([output])] == ["cat", "dog"]
    inside = f"{output.rstrip('/')}/corrections"
    assert [one.label for one in read_corrections([inside])] == ["cat", "dog"]
    with pytest.raises(StorageError, match="no such"):
        read_corrections([f"{output.rstrip('/')}/nowhere.csv"])


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(StorageError, match="no such folder; name a"):
        read_corrections([str(tmp_path / "nowhere")])


def test_the_last_word_on_a_content_counts_and_two_of_them_are_told():
    rows = [
        Correction("1", A, "cat"),
        Correction("2", B, "cat"),
        Correction("3", A, "dog", "other"),
        Correction("4", B, "cat", "right"),
        Correction("5", C, "", "none"),
    ]
    last, differing = last_of_each(rows)
    assert {sha256: row.path for sha256, row in last.items()} == {A: "3", B: "4", C: "5"}
    assert differing == ["3"]


@pytest.mark.parametrize(
    "line, told",
    [
        ("a.jpg,123,cat,,", "line 2: 'a.jpg' has no sha256 of 64 hex digits"),
        (f"a.jpg,{A},cat,perhaps,", "the answer 'perhaps'; write right, other, none or nothing"),
        (f"a.jpg,{A},cat,none,", "the answer none and the label 'cat'; empty one of them"),
        (f"a.jpg,{A},,right,", "the answer right and no label"),
        (f"a.jpg,{A},cat,,many", "drawn is 'many'"),
    ],
)
def test_a_line_that_cannot_be_used_is_said(line, told):
    with pytest.raises(TableError, match=told):
        parsed("x.csv", f"path,sha256,label,answer,drawn\n{line}\n".encode())


@pytest.mark.parametrize(
    "data, told",
    [
        (b"path,label\n", "lacks the column sha256; give the corrections.csv"),
        (b"\xff\xfe", "no UTF-8 CSV"),
        (b"", "lacks the column label and path and sha256"),
    ],
)
def test_a_file_that_is_none_is_said(data, told):
    with pytest.raises(TableError, match=told):
        parsed("x.csv", data)
