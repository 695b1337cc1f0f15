"""Files that a training skips and reports: thumbnails of NAS systems, unreadable folders."""

import json

from conftest import encoded, picture
from unprivileged import reachable_folder, unprivileged

from visionflows.datasets.file_table import build_table
from visionflows.datasets.table_notes import table_notes


def write(folder, *names: str) -> None:
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(picture(at, (12, 9)), "PNG"))


PETS = [f"{kind}/{at}.png" for kind in ("cat", "dog") for at in range(4)]


def test_thumbnail_folders_are_not_classes(tmp_path):
    write(tmp_path, *PETS, *(f"{name.replace('/', '/@eaDir/')}/THUMB_M.png" for name in PETS))
    table = build_table(tmp_path, "folder")
    assert set(table.label) == {"cat", "dog"}
    assert table_notes(table) == ["skipped: 2 @eaDir"]


def test_the_store_and_the_cache_in_a_dataset_are_no_data(tmp_path, monkeypatch):
    """What `train .` leaves, with the store where it is by default."""
    own = ("store/models/pets/1/pictures/1.png", "store/datasets/x/cat/9.png", "cache/dog/9.png")
    write(tmp_path, *PETS, *own)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONFLOWS_CACHE", "cache")
    table = build_table(".", "folder", store="store")
    assert sorted(table.path) == PETS
    assert table_notes(table) == ["skipped: 2 own (store, output, cache)"]


def test_other_files_are_noted_by_extension_and_images_may_have_any_extension(tmp_path, caplog):
    caplog.set_level("INFO", "visionflows.table")
    write(tmp_path, *PETS, "cat/saved.jpg_large", "dog/no ending")
    for name in ("cat/notes.txt", "dog/letter", "labels.csv", "labels.bak"):
        (tmp_path / name).write_bytes(b"no picture")
    table = build_table(tmp_path, "folder")
    assert (table.status == "ok").sum() == len(table) == len(PETS) + 2
    assert "not images: 1 .txt, 1 no extension, 1 .bak, 1 .csv" in caplog.messages


def test_an_unreadable_folder_is_noted_and_the_rest_is_used():
    with reachable_folder() as folder:
        write(folder, *PETS, "private/1.png")
        (folder / "private").chmod(0)
        notes = unprivileged(lambda: json.dumps(table_notes(build_table(folder, "folder"))))
    assert json.loads(notes) == [
        "skipped, as this user may not read the folder: 1, private (Permission denied)"
    ]
