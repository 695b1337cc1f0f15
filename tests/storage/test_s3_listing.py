"""Sorting of entries by name, in one temporary file."""

import contextlib
import os
import tempfile

import pytest
from small_disk import small_disk

from visionflows.errors import StorageError
from visionflows.storage.base import Entry
from visionflows.storage.name_encoding import encode_name
from visionflows.storage.s3 import listing
from visionflows.storage.s3.listing import sort_entries


def test_many_unordered_entries_are_sorted():
    names = [f"{(number * 7919) % 1009:05d}" for number in range(1009)]
    found = [entry.name for entry in sort_entries(Entry(name, 1, "é\n") for name in names)]
    assert found == sorted(names)


def test_names_sort_by_their_encoded_text():
    names = [r"a\x41.jpg", r"a\b.jpg", "a/b.jpg", "a.jpg"]
    found = [entry.name for entry in sort_entries(Entry(name, 1, "") for name in names)]
    assert found == sorted(names, key=encode_name) != sorted(names)


def test_a_key_that_is_listed_twice_is_one_entry():
    assert [*sort_entries([Entry("a", 1, "x"), Entry("a", 1, "x")])] == [Entry("a", 1, "x")]


def test_one_file_is_open_however_many_entries_there_are():
    entries = sort_entries(Entry(f"{number:05d}", 1, "") for number in range(5000))
    before = open_files()
    assert [open_files() - before for _ in entries] == [1] * 5000
    assert open_files() == before


def open_files() -> int:
    """The number of open files that were deleted."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            name = os.readlink(f"/proc/self/fd/{number}")
            found += tempfile.gettempdir() in name and "(deleted)" in name
    return found


def test_long_names_are_complete():
    names = ["é" * length for length in (20_000, 5, 40_000, 1)]
    assert [len(entry.name) for entry in sort_entries(Entry(name, 1, "") for name in names)] == [
        *(1, 5, 20_000, 40_000)
    ]


def test_a_full_disk_is_reported_with_its_folder(monkeypatch, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        raises = pytest.raises(StorageError, match=rf"^{disk}: .*disk is full.*set TMPDIR")
        with raises:
            list(sort_entries(Entry(f"{number:0900d}", 1, "") for number in range(10_000)))


@pytest.mark.parametrize(
    "pages, fault",
    [
        (("a t1", "b t2", "c t1"), "the same token twice"),
        (("a t1", "b "), "a page without a token"),
        (("a t1", "a t2"), "the same page twice"),
    ],
)
def test_a_listing_that_never_ends_is_reported(monkeypatch, pages, fault):
    answers = (page.split(" ") for page in pages)

    def call(operation, bucket, **parameters):
        key, token = next(answers)
        return {"Contents": [{"Key": key}], "IsTruncated": True, "NextContinuationToken": token}

    monkeypatch.setattr(listing, "call", call)
    with pytest.raises(StorageError, match=f"^s3://lab/in/: cannot be listed: .*{fault}"):
        list(listing.keys("lab", "in/"))
