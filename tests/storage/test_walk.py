"""Walks over links, names that are too long, files in transfer, and dead shares."""

import errno
import inspect
import os
import sys
import time
from pathlib import Path

import pytest

from visionflows.errors import StorageError
from visionflows.storage import open_storage, own_locations, walk
from visionflows.storage.base import MISSING, YOUNG, SkippedFiles
from visionflows.storage.local import LocalStorage
from visionflows.storage.skipped_names import OWN


def make(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def walked(folder: Path, **options) -> tuple[list[str], SkippedFiles]:
    skipped = SkippedFiles(**options)
    return [entry.name for entry in LocalStorage(folder).walk(None, skipped)], skipped


@pytest.mark.parametrize("target", ["3.png/x", "n" * 300, "broken.png", "gone", "x/" * 3000])
def test_a_link_that_cannot_be_followed_is_missing(tmp_path, target):
    make(tmp_path, "3.png")
    try:
        (tmp_path / "broken.png").symlink_to(target)
    except OSError:
        pytest.skip("this file system has no such link")
    broken = [entry for entry in LocalStorage(tmp_path).walk() if entry.version == MISSING]
    assert [entry.name for entry in broken] == ["broken.png"]


def test_deep_folders_are_listed_and_paths_that_are_too_long_are_counted(tmp_path, monkeypatch):
    make(tmp_path, "1.png", "z/2.png")
    for name, depth in (("d", 300), ("x" * 200, 21)):
        monkeypatch.chdir(tmp_path)
        for _ in range(depth):
            os.mkdir(name)
            os.chdir(name)
        Path("3.png").write_bytes(b"x")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        found, skipped = walked(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert found == ["1.png", f"{'d/' * 300}3.png", "z/2.png"]
    assert skipped.counts == {walk.TOO_LONG: 1}


def test_links_between_folders_list_each_folder_once(tmp_path):
    folder = tmp_path / "in"
    for level in range(24):
        make(folder, f"{level:02}/{level}.png")
        for name in "ab":
            (folder / f"{level:02}/{name}").symlink_to(f"../{level + 1:02}")
    (folder / "up").symlink_to("..")
    found, skipped = walked(folder)
    assert len(found) == 24 + 2  # and two links to a folder that is not there
    assert skipped.counts == {walk.SEEN: 2 * 23 + 1}
    for level in range(1, 24):  # the same beside the input, reached by one link
        (folder / f"{level:02}").rename(make(tmp_path / "beside", "x") / f"{level:02}")
    for name in "ab":
        (folder / f"00/{name}").unlink()
        (folder / f"00/{name}").symlink_to("../../beside/01")
    found, skipped = walked(folder)
    assert sum(name.endswith(".png") for name in found) == 24


def test_links_lead_out_of_the_folder_unless_they_are_switched_off(tmp_path):
    make(tmp_path / "private", "1.png", "deep/2.png")
    folder = make(tmp_path / "in", "3.png", ".hidden/4.png")
    (folder / "x").symlink_to("../private")
    (folder / "y").symlink_to("../private/deep")
    (folder / "z.png").symlink_to("../private/1.png")
    (folder / "hidden").symlink_to(".hidden")
    found, skipped = walked(folder)
    assert found == ["3.png", "hidden/4.png", "x/1.png", "x/deep/2.png", "z.png"]
    assert skipped.counts == {".*": 1, walk.SEEN: 1}
    found, skipped = walked(folder, follow_links=False)
    assert found == ["3.png"]
    assert skipped.counts == {".*": 1, walk.LINK: 4}


def test_own_files_are_no_data(where, tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "in/cache"))
    make(tmp_path / "in", "a/1.png", "scores/2.png", "b/store/3.png", "cache/4.png", "storex/5.png")
    make(tmp_path / "in", "b/store/models/pets/1/selfcheck/6.png")
    skipped = SkippedFiles(
        own_locations(where(tmp_path / "in/b/store"), where(tmp_path / "in/scores"))
    )
    found = [entry.name for entry in open_storage(where(tmp_path / "in")).walk(None, skipped)]
    is_local = where(tmp_path) == str(tmp_path)
    assert found == ["a/1.png", *([] if is_local else ["cache/4.png"]), "storex/5.png"]
    assert skipped.counts == {OWN: 3 if is_local else 2}


def test_a_link_to_own_files_is_followed_into_a_dataset_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "cache"))
    make(tmp_path / "out/store", "datasets/pets/1.png", "models/2.png")
    folder = make(tmp_path / "in", "3.png")
    (folder / "all").symlink_to("../out")
    (folder / "pets").symlink_to("../out/store/datasets/pets")
    found, skipped = walked(folder, own=own_locations(tmp_path / "out/store"))
    assert found == ["3.png", "pets/1.png"]
    assert skipped.counts == {OWN: 1}


def test_files_in_transfer_and_files_that_are_elsewhere_are_counted(where, tmp_path):
    names = ("1.jpg", "2.jpg.filepart", "3.jpg.part", "Unconfirmed 1.crdownload", ".4.HEIC.icloud")
    make(tmp_path / "in", *names, "photos.part/5.jpg")
    skipped = SkippedFiles()
    found = open_storage(where(tmp_path / "in")).walk(None, skipped)
    assert [entry.name for entry in found] == ["1.jpg", "photos.part/5.jpg"]
    assert skipped.counts.total() == 4
    assert skipped.counts["*.icloud (not downloaded yet)"] == 1


def test_young_files_are_left_for_a_later_walk(where, tmp_path):
    make(tmp_path / "in", "new.jpg", "old.jpg", "future.jpg")
    now = time.time()
    os.utime(tmp_path / "in/old.jpg", (now - 90, now - 90))
    os.utime(tmp_path / "in/future.jpg", (now + 9000, now + 9000))
    here, skipped = open_storage(where(tmp_path / "in")), SkippedFiles(min_age=60)
    assert [entry.name for entry in here.walk(None, skipped)] == ["future.jpg", "old.jpg"]
    assert skipped.counts == {YOUNG: 1}


def test_pipes_and_devices_are_counted(tmp_path):
    make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    found, skipped = walked(tmp_path)
    assert (found, skipped.counts) == (["a.jpg"], {walk.NOT_A_FILE: 2})


@pytest.fixture
def dead(monkeypatch):
    """Let a folder fail when it is listed, so many times."""

    def die(folder: Path, times: int, number: int = errno.ESTALE) -> None:
        real, failed = os.scandir, []

        def scandir(path):
            if str(path) == str(folder) and len(failed) < times:
                failed.append(path)
                raise OSError(number, os.strerror(number))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)

    monkeypatch.setattr(walk, "_PAUSES", (0.01, 0.01))
    return die


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOTCONN])
def test_a_folder_whose_share_fails_is_recorded_and_the_others_are_listed(tmp_path, dead, number):
    make(tmp_path, "a/1.jpg", "b/2.jpg", "b-/3.jpg", "c/4.jpg")
    dead(tmp_path / "b", 99, number)
    found, skipped = walked(tmp_path, unlisted={})
    assert found == ["a/1.jpg", "b-/3.jpg", "b/", "c/4.jpg"]
    assert skipped.unlisted == {"b": os.strerror(number)}
    with pytest.raises(StorageError, match=r"b: cannot be listed \(.*\); check its disk or share"):
        walked(tmp_path)  # a training needs all of them


def test_a_folder_whose_share_comes_back_is_listed(tmp_path, dead):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    dead(tmp_path / "b", 2)
    assert walked(tmp_path)[0] == ["a/1.jpg", "b/2.jpg"]
