"""Files that a walk skips and counts, on a disk and in a bucket."""

import json

import pytest
from unprivileged import reachable_folder, unprivileged

from visionflows.models.registry import new_version
from visionflows.storage import open_storage
from visionflows.storage.base import SkippedFiles
from visionflows.storage.local import LocalStorage
from visionflows.storage.skipped_names import OWN, hidden_kind

LEFT_BEHIND = {
    "a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg": "@eaDir",
    "a/@eaDir/2.jpg/SYNOPHOTO_THUMB_M.jpg": "@eaDir",
    "b/@eadir/1.jpg": "@eaDir",
    "#recycle/old.jpg": "#recycle",
    "@Recycle/old.jpg": "@Recycle",
    "lost+found/#12.jpg": "lost+found",
    "$Recycle.Bin/S-1-5-21/$R1.jpg": "$RECYCLE.BIN",
    "System Volume Information/x.jpg": "System Volume Information",
    "found.001/file0000.jpg": "found.000",
    "2020 Previews.lrdata/A/1.jpg": "*.lrdata",
    "__MACOSX/a/1.jpg": "__MACOSX",
    ".Trash-1000/files/1.jpg": ".*",
    "a/.hidden.jpg": ".*",
    "a/._1.jpg": ".*",
    f"old store/models/pets/{new_version()}/selfcheck/00.png": OWN,
}
PICTURES = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "found/1.jpg", "lrdata/1.jpg", "recycle/1.jpg"]


@pytest.fixture
def here(where, tmp_path):
    return open_storage(where(tmp_path / "here"))


def test_system_files_are_skipped_and_counted(here):
    for name in (*PICTURES, *LEFT_BEHIND):
        here.write(name, b"x")
    skipped = SkippedFiles()
    assert [entry.name for entry in here.walk(skipped=skipped)] == PICTURES
    assert skipped.counts == {**dict.fromkeys(LEFT_BEHIND.values(), 1), "@eaDir": 2, ".*": 3}
    (line,) = skipped.lines()
    assert "1 $RECYCLE.BIN, 1 *.lrdata, 3 .*" in line
    assert [entry.name for entry in here.walk()] == PICTURES


@pytest.mark.parametrize(
    "name", ["eaDir", "lost", "recycle", "found.jpg", "a.lrdata.jpg", "20261201T0401", "..", ""]
)
def test_similar_names_are_not_skipped(name):
    assert not hidden_kind(name)


def test_a_walk_that_skips_nothing_logs_nothing(here):
    here.write("a/1.jpg", b"x")
    skipped = SkippedFiles()
    list(here.walk(skipped=skipped))
    assert skipped == SkippedFiles()
    assert skipped.lines() == []


def test_a_folder_without_permission_is_skipped():
    with reachable_folder() as folder:
        for name in ("a/1.jpg", "private/2.jpg", "z/deep/3.jpg", "z/4.jpg", "z/to"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x")
        (folder / "z/to").unlink()
        (folder / "z/to").symlink_to("../private/2.jpg")  # unreadable like its target
        for name in ("private", "z/deep"):
            (folder / name).chmod(0)

        def seen() -> str:
            skipped = SkippedFiles()
            found = [entry.name for entry in LocalStorage(folder).walk(str.isascii, skipped)]
            return json.dumps([found, skipped.denied, skipped.lines()])

        found, closed, (line,) = json.loads(unprivileged(seen))
    assert found == ["a/1.jpg", "z/4.jpg", "z/to"]
    assert closed == {"private": "Permission denied", "z/deep": "Permission denied"}
    assert line == (
        "skipped, as this user may not read the folder: 2, private (Permission denied), "
        "z/deep (Permission denied)"
    )
