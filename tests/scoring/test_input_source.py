"""The input of a run: a folder, or a list of paths and their root."""

import os

import pytest
from conftest import write_shapes
from scored_runs import rows_of

from visionflows.errors import RunError, StorageError
from visionflows.scoring.input_source import Source, read_list
from visionflows.scoring.local_run import score_folder
from visionflows.storage import open_storage


def listed(where: str) -> list[str]:
    return [entry.name for entry in read_list(where)[1]]


def test_a_text_file_has_a_path_per_line(where, tmp_path):
    (tmp_path / "batch.txt").write_bytes(b"\xef\xbb\xbfb.jpg\r\n\n./a/1.png\nb.jpg\n")
    assert listed(where(tmp_path / "batch.txt")) == ["a/1.png", "b.jpg"]
    (tmp_path / "bytes.txt").write_bytes(b"caf\\xe9.jpg")  # as written to our CSV
    assert listed(str(tmp_path / "bytes.txt")) == ["caf\udce9.jpg"]


def test_a_folder_name_may_end_like_a_list(tmp_path):
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt/1.png").write_bytes(b"x")
    source = Source(str(tmp_path / "a.txt"))
    assert not source.is_list
    assert [entry.name for entry in source.entries()] == ["1.png"]


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("l.csv", b"path,status\na.png,x\n\nb.png\n,x\n", "line 5: '' an empty name"),
        ("l.csv", b"status,path\nx,a.png\nx\n", "line 3: has no path"),
        ("l.csv", b"path\na\\x41.png\n", "line 2: .*stands for bytes that no name has"),
        ("l.csv", b"path\na.png\n\xff.png\n", "line 3: not UTF-8"),
        ("l.csv", b"path\n../a.png\n", "line 2: '../a.png' has an empty part, or"),
        ("l.csv", b"path\n/etc/passwd\n", "line 2: '/etc/passwd' is absolute"),
        ("l.csv", b"path\n" + b"a" * 200_000, "line 2: not CSV .*field larger"),
        ("l.csv", b"path\na\0.png\n", "line 2: .*zero byte"),
        ("l.csv", b'path\n"a.png\nb.png\nc.png\n', "line 4: not CSV .*unexpected end"),
        ("l.csv", b"", "no column `path`"),
        ("l.txt", b"a.png\n../../etc/passwd\n", "line 2: "),
        ("l.txt", b"a.png\ncaf\xe9.png\n", "line 2: not UTF-8"),
    ],
)
def test_an_invalid_line_is_one_error_with_its_number(name, data, says, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StorageError, match=says) as caught:
        Source(str(tmp_path / name))
    assert str(caught.value).isprintable()


def test_a_list_of_a_terabyte_is_not_read(tmp_path):
    with open(tmp_path / "l.txt", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StorageError, match=r"l\.txt: 1,099,511,627,776 bytes, more than .* split"):
        Source(str(tmp_path / "l.txt"))


def test_keys_that_are_not_paths_are_valid_in_a_list(s3, tmp_path):
    """rclone supports no such key, so only the list is read: its names are unchanged."""
    (tmp_path / "keys.csv").write_text("path\na//b.png\n../c.png\n")
    assert listed(s3.uri(tmp_path / "keys.csv")) == ["../c.png", "a//b.png"]


def test_a_list_of_a_list_has_the_root_of_the_first(trained, where, tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    (folder / "bad.png").write_bytes(b"no picture")
    source = where(folder)
    for generation in ("one", "two", "three"):
        output = tmp_path / generation
        run = score_folder(source, "shapes", where(output), where(trained.store))
        assert run["root"] == where(folder)
        source = where(output / "failures.csv")
        assert rows_of(output)[0]["status"] == "unreadable"
    assert run["counts"]["found"] == 1


def test_input_and_root_are_absolute(trained, tmp_path, monkeypatch):
    write_shapes(tmp_path / "in", each=1)
    monkeypatch.chdir(tmp_path)
    run = score_folder("in", "shapes", "out", trained.store)
    assert (run["input"], run["root"]) == (f"{tmp_path}/in", f"{tmp_path}/in")


def test_an_invalid_run_json_beside_a_list_is_an_error(where, tmp_path):
    open_storage(where(tmp_path)).write("run.json", b"torn{")
    open_storage(where(tmp_path)).write("failures.csv", b"path\na.png\n")
    with pytest.raises(StorageError, match=r"run\.json: not JSON"):
        read_list(where(tmp_path / "failures.csv"))


def test_a_folder_that_vanishes_or_is_replaced_is_an_error(tmp_path):
    folder = write_shapes(tmp_path / "in", each=1)
    source = Source(str(folder))
    source.check_unchanged()
    folder.rename(tmp_path / "away")
    with pytest.raises(RunError, match="is gone"):
        source.check_unchanged()
    os.mkdir(folder)
    with pytest.raises(RunError, match="another folder or disk"):
        source.check_unchanged()
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    source.check_unchanged()
