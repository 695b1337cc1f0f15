"""What a training passes over, and says so: thumbnails of storage, folders closed to the user."""

import json

from conftest import encoded, picture
from unprivileged import reachable_folder, unprivileged

from visionflows.datasets.file_table import build_table, table_notes


def write(folder, *names: str) -> None:
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(picture(at, (12, 9)), "PNG"))


PETS = [f"{kind}/{at}.png" for kind in ("cat", "dog") for at in range(4)]


def test_thumbnails_of_a_storage_are_no_class(tmp_path):
    write(tmp_path, *PETS, *(f"{name.replace('/', '/@eaDir/')}/THUMB_M.png" for name in PETS))
    table = build_table(tmp_path, "folder")
    assert set(table.label) == {"cat", "dog"}
    assert table_notes(table) == ["skipped, as hidden or left by a system: 2 @eaDir"]


def test_what_is_no_picture_is_told_by_its_ending_and_a_picture_may_have_any(tmp_path, caplog):
    caplog.set_level("INFO", "visionflows.table")
    write(tmp_path, *PETS, "cat/saved.jpg_large", "dog/no ending")
    for name in ("cat/notes.txt", "dog/letter", "labels.csv", "labels.bak"):
        (tmp_path / name).write_bytes(b"no picture")
    table = build_table(tmp_path, "folder")
    assert (table.status == "ok").sum() == len(table) == len(PETS) + 2
    assert "not images: 1 .txt, 1 no extension, 1 .bak, 1 .csv" in caplog.messages


def test_a_closed_folder_is_told_and_the_rest_is_trained_on():
    with reachable_folder() as folder:
        write(folder, *PETS, "private/1.png")
        (folder / "private").chmod(0)
        told = unprivileged(lambda: json.dumps(table_notes(build_table(folder, "folder"))))
    assert json.loads(told) == [
        "skipped, as this user may not read the folder: 1, private (Permission denied)"
    ]
