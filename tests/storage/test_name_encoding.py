"""The rule for valid names in a storage."""

import os

import pytest

from visionflows.errors import StorageError
from visionflows.storage.base import Entry, validate_name
from visionflows.storage.local import LocalStorage

OUTSIDE = [
    *("..", "../x", "a/../../x", "a/..", "/etc/passwd", "//x", "a//b", "./a", "a/.", "a/", "."),
    *("a\0b", "\udc41.png"),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_invalid_names_are_refused(name, tmp_path):
    (tmp_path / "x").write_bytes(b"outside")
    here = LocalStorage(tmp_path / "here")
    here.write("a", b"inside")
    before = sorted(os.walk(tmp_path))
    calls = {
        "read": lambda: here.read(name),
        "open": lambda: here.open_read(name),
        "write": lambda: here.write(name, b"!"),
        "update": lambda: here.update(name, lambda data: b"!"),
        "remove": lambda: here.remove(name),
        "from": lambda: here.rename(name, "b"),
        "to": lambda: here.rename("a", name),
        "exists": lambda: here.exists(name),
        "names": lambda: here.names(name),
        "sub": lambda: here.sub(name),
        "lock": lambda: here.lock(name).__enter__(),
    }
    for call in calls.values():
        with pytest.raises(StorageError, match="not the name of a file") as caught:
            call()
        assert str(caught.value).isprintable()
    assert sorted(os.walk(tmp_path)) == before
    assert here.read("a") == b"inside"


@pytest.mark.parametrize("call", ["read", "write", "rename"])
def test_the_empty_name_is_not_a_file(call, tmp_path):
    here = LocalStorage(tmp_path / "here")
    here.write("a", b"x")
    with pytest.raises(StorageError, match="an empty name"):
        {
            "read": lambda: here.read(""),
            "write": lambda: here.write("", b"!"),
            "rename": lambda: here.rename("a", ""),
        }[call]()
    assert os.listdir(tmp_path) == ["here"]


@pytest.mark.parametrize("name", ["a", "a b/c", "...", "..a", ".a", "caf\udce9", "two\nlines"])
def test_other_names_are_valid(name):
    assert validate_name(name) == name


def test_an_invalid_name_is_an_error_of_that_file_only(tmp_path):
    here = LocalStorage(tmp_path)
    here.write("a", b"x")
    some = [Entry(name, 0, "") for name in ("a", "../a", "a")]
    first, wrong, last = here.read_many(some)
    assert (first, last) == (b"x", b"x")
    assert isinstance(wrong, OSError)
