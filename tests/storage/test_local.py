"""Local storage: names of any bytes, links, permissions, temporary files, full disks."""

import errno
import fcntl
import os
import random
import stat
import subprocess
from pathlib import Path

import pytest
from unprivileged import reachable_folder, unprivileged

from visionflows.errors import SettingsError, StorageError
from visionflows.images.formats import is_image_name
from visionflows.storage import file_lock, open_storage
from visionflows.storage.base import MISSING
from visionflows.storage.local import LocalStorage
from visionflows.storage.name_encoding import decode_name, encode_name


def names(folder: Path) -> list[str]:
    return [entry.name for entry in LocalStorage(folder).walk(is_image_name)]


def make(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def line_of(call) -> str:
    """The message of the StorageError that `call` raises."""
    try:
        call()
    except StorageError as error:
        return str(error)
    return "no StorageError"


# Names as text


def random_names(count: int) -> list[str]:
    """Names of one to eight pieces that are difficult in a CSV or an escape."""
    pieces = [
        b"a",
        b"x41",
        b"\\",
        b"\\x41",
        b"\\x",
        b"\xff",
        b"\x80",
        b"\xc3\xa9",
        b"\xc3",
        b"\xa9",
    ]
    pieces += [
        b" ",
        b",",
        b'"',
        b"'",
        b"\n",
        b"\r",
        b"=",
        b"/",
        b"\\\\",
        b"\xf0\x9f\x90\x95",
        b"\\xff",
    ]
    rng = random.Random(7)
    return [os.fsdecode(b"".join(rng.choices(pieces, k=rng.randint(1, 8)))) for _ in range(count)]


def test_the_text_of_a_name_is_utf8_and_decodes_to_the_name():
    for name in random_names(3000):
        text = encode_name(name)
        text.encode()
        assert decode_name(text) == name


def test_texts_of_different_names_differ():
    different = set(random_names(3000))
    assert len(different) > 2000
    assert len({encode_name(name) for name in different}) == len(different)


@pytest.mark.parametrize(
    "name",
    ["a b.jpg", "a,b.jpg", 'say "hi".jpg', "two\nlines.jpg", "=1+1.jpg", "Zoë/犬.jpg", "a\\b.jpg"],
)
def test_ordinary_names_are_unchanged(name):
    assert encode_name(name) == name


def test_bytes_that_are_not_utf8_are_written_as_hex():
    assert encode_name(os.fsdecode(b"caf\xe9\\/a\\b.jpg")) == "caf\\xe9\\\\/a\\b.jpg"
    assert encode_name("caf\\xe9.jpg") == "caf\\\\xe9.jpg"


# Listings


def test_walk_is_sorted_by_the_full_path(tmp_path):
    make(
        tmp_path, "a/z.jpg", "a.jpg", "a-b.jpg", "a0.jpg", "B.JPG", "é.jpg", "é/1.jpg", "a/b/1.png"
    )
    for at, name in enumerate(random_names(300)):
        name = name.replace("/", "").strip(".")
        make(tmp_path, f"{name}{at % 7}/{at}.jpg" if at % 3 else f"{name}.jpg")
    found = [encode_name(name) for name in names(tmp_path)]
    assert len(found) > 250
    assert found == sorted(found)


def test_walk_follows_links_without_loops(tmp_path):
    make(tmp_path, "data/cats/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "data/cats/up").symlink_to("..")
    (tmp_path / "data/self").symlink_to(".")
    (tmp_path / "data/here.jpg").symlink_to("here.jpg")
    (tmp_path / "data/other").symlink_to("../elsewhere")
    assert names(tmp_path / "data") == ["cats/1.jpg", "here.jpg", "other/2.jpg"]


def test_walk_marks_a_dangling_link(tmp_path):
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (entry,) = LocalStorage(tmp_path).walk(is_image_name)
    assert (entry.name, entry.size, entry.version) == ("gone.jpg", 0, MISSING)


def test_walk_leaves_out_pipes_and_devices(tmp_path):
    make(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    assert names(tmp_path) == ["a.jpg"]


def test_walk_refuses_a_folder_it_cannot_list():
    with reachable_folder() as folder:
        make(folder, "open/1.jpg", "closed/2.jpg")
        (folder / "closed").chmod(0)
        message = unprivileged(lambda: line_of(lambda: names(folder / "closed")))
    assert message.startswith(f"{folder}/closed: cannot be listed (Permission denied)")
    assert "\n" not in message


def test_walk_of_a_missing_folder_is_an_error_of_one_line(tmp_path):
    with pytest.raises(StorageError, match=r"nowhere: no such folder; name the folder"):
        names(tmp_path / "nowhere")


# Atomic writes


def test_a_written_file_has_the_permissions_of_the_umask(tmp_path):
    LocalStorage(tmp_path).write("a", b"x")
    make(tmp_path, "b")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_writing_to_the_name_of_a_folder_is_one_line_and_leaves_no_temporary_file(tmp_path):
    make(tmp_path, "taken/file")
    with pytest.raises(StorageError, match="taken: cannot be written"):
        LocalStorage(tmp_path).write("taken", b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_folder_without_write_permission_is_one_line():
    with reachable_folder() as folder:
        (folder / "closed").mkdir(mode=0o755)
        (folder / "closed").chmod(0o555)
        closed = LocalStorage(folder / "closed")
        calls = {
            "write": lambda: closed.write("a", b"x"),
            "probe": closed.check_writable,
            "lock": lambda: closed.lock(".lock").__enter__(),
            "below": closed.sub("below").check_writable,
        }
        for call in calls.values():
            message = unprivileged(lambda call=call: line_of(call))
            assert message.startswith(str(folder / "closed"))
            assert message.endswith(
                "this user may not write there; name a folder that it may write"
            )


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("a small disk cannot be made here: no mount command")
    if done.returncode:
        pytest.skip(f"a small disk cannot be made here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [70_000, 10_000_000])  # less than a buffer over, and far over
def test_no_space_is_one_line_and_leaves_nothing(full_disk, size):
    out = LocalStorage(full_disk)
    with pytest.raises(
        StorageError, match=r"weights: no space left on its disk; free some"
    ) as caught:
        out.write("weights", bytes(size))
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert os.listdir(full_disk) == []
    out.write("weights", b"fits")


@pytest.mark.parametrize("lacks", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_line_and_nothing_stays_open(
    tmp_path, monkeypatch, lacks
):
    def flock(descriptor, operation):
        raise OSError(lacks, os.strerror(lacks))

    monkeypatch.setattr(fcntl, "flock", flock)
    before = len(os.listdir("/proc/self/fd")), set(file_lock._held)
    lock = LocalStorage(tmp_path).lock(".lock")
    with pytest.raises(StorageError) as caught:
        lock.__enter__()
    assert str(caught.value) == (
        f"{tmp_path}/.lock: its file system has no locks ({os.strerror(lacks)}); mount it with "
        "flock, or name another location"
    )
    assert (len(os.listdir("/proc/self/fd")), set(file_lock._held)) == before


@pytest.mark.parametrize("lacks", [errno.EINVAL, errno.ENOTSUP])
def test_files_are_written_to_a_share_that_cannot_sync_folders(tmp_path, monkeypatch, lacks):
    real, failing = os.fsync, lacks

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(failing, os.strerror(failing))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    LocalStorage(tmp_path).write("a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    failing = errno.EIO
    with pytest.raises(StorageError, match="b: cannot be written"):
        LocalStorage(tmp_path).write("b", b"x")


def test_free_bytes_of_a_folder_to_be_made(tmp_path):
    assert LocalStorage(tmp_path / "not" / "yet").free_bytes() > 0


# Storages by name


def test_open_storage_of_a_local_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(open_storage("~/photos")) == str(tmp_path / "photos")
    assert str(open_storage("file:///data/photos")) == "/data/photos"
    assert str(open_storage(Path("photos")).sub("cats")) == "photos/cats"


def test_a_file_that_cannot_be_replaced_is_written_beside_it():
    """As a share refuses while a program has the file open: here a folder whose files stay."""
    with reachable_folder() as folder:
        folder.chmod(0o1777)
        (folder / "predictions.csv").write_bytes(b"old")

        def written() -> str:
            with pytest.raises(StorageError) as caught:
                LocalStorage(folder).write("predictions.csv", b"new")
            return str(caught.value)

        assert "another program has it open and locks it" in unprivileged(written)
        assert (folder / "predictions.csv").read_bytes() == b"old"
        assert (folder / "predictions.new.csv").read_bytes() == b"new"


@pytest.mark.parametrize("where", ["", "ftp://host/photos", "~nosuchuser/inbox"])
def test_an_unknown_scheme_or_user_is_refused(where):
    with pytest.raises(SettingsError, match=r"name a folder|no such user; write \./~nosuchuser/in"):
        open_storage(where)


def test_names_and_remove(tmp_path):
    here = LocalStorage(tmp_path)
    make(tmp_path, "b/file", "a/file", ".hidden")
    (tmp_path / "link").symlink_to("b")
    assert here.names() == ["a", "b", "link"]
    here.remove("link")
    assert here.read("b/file") == b"x"
    here.remove("b")
    here.remove("b")
    assert here.names() == ["a"]
    assert here.names("nowhere") == []
