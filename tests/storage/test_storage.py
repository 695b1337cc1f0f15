"""The interface of every storage, tested on a disk and in a bucket.

The server keeps the objects of the bucket on the disk: `tmp_path / "here"`.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from visionflows.errors import LockedError, StorageError
from visionflows.images.formats import is_image_name
from visionflows.storage import open_storage
from visionflows.storage.base import Entry

ROOT = Path(__file__).parents[2]
NAMES = ["a b.jpg", "a+b.jpg", "a%20b.jpg", "Zoë/犬.jpg", "two\nlines.jpg", "a&<b>.jpg", "=1.jpg"]


@pytest.fixture
def here(where, tmp_path):
    return open_storage(where(tmp_path / "here"))


def test_a_written_file_is_read_and_no_other_file_is_left(here, tmp_path):
    here.write("deep/file.bin", b"first")
    here.write("deep/file.bin", b"second")
    assert here.read("deep/file.bin") == b"second"
    assert [entry.name for entry in here.walk()] == ["deep/file.bin"]
    assert os.listdir(tmp_path / "here/deep") == ["file.bin"]


def test_the_beginning_of_a_file_is_all_of_a_short_one(here):
    for name, data in {"long": b"0123456789", "short": b"01", "empty": b""}.items():
        here.write(name, data)
        assert [*here.heads([name], 4)] == [data[:4]]
    (error,) = here.heads(["gone"], 4)
    assert isinstance(error, FileNotFoundError)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_kind_are_written_listed_and_read(here, name):
    here.write(name, name.encode())
    (entry,) = here.walk(is_image_name)
    assert (entry.name, entry.size) == (name, len(name.encode()))
    assert here.read(name) == name.encode()
    assert here.exists(name)
    here.remove(name)
    assert not here.exists(name)


def test_a_walk_is_sorted_and_skips_hidden_files(here):
    names = ["a/z.jpg", "a.jpg", "a-b.jpg", "a0.jpg", "B.JPG", "é.jpg", "é/1.jpg", "a/b/1.png"]
    names += ["a\\b.jpg", "a\\x41.jpg"]
    hidden = [".hidden.jpg", "._a.jpg", ".git/c.jpg", "__MACOSX/d.jpg", "__MACOSX/._a.jpg"]
    for name in [*names, *hidden]:
        here.write(name, b"x")
    from visionflows.storage.name_encoding import encode_name

    assert [entry.name for entry in here.walk(is_image_name)] == sorted(names, key=encode_name)


def test_a_walk_filters_images_by_extension_in_any_case(here):
    for name in ("a.JPG", "b.jPeG", "c.txt", "d", "e.webp", "jpg", "x.jpg/y.jpg", "x.jpg/z.txt"):
        here.write(name, b"x")
    found = [entry.name for entry in here.walk(is_image_name)]
    assert found == ["a.JPG", "b.jPeG", "e.webp", "x.jpg/y.jpg"]


def test_a_file_is_not_a_folder(here):
    here.write("a.png", b"x")
    with pytest.raises(StorageError, match=r"is (a file|an object), not a folder"):
        list(here.sub("a.png").walk())


def test_a_prefix_ends_at_its_slash(here):
    here.write("a/1.jpg", b"x")
    here.write("a_test/2.jpg", b"x")
    here.write("ab", b"x")
    assert [entry.name for entry in here.sub("a").walk()] == ["1.jpg"]
    here.remove("a")
    assert here.names() == ["a_test", "ab"]
    assert not here.exists("a")


def test_a_version_changes_with_the_content(here):
    here.write("a.jpg", b"first")
    (first,) = here.walk()
    here.write("a.jpg", b"longer than that")
    (second,) = here.walk()
    assert first.version != second.version
    assert (first.size, second.size) == (5, 16)
    assert here.entry("a.jpg") == second


def test_names_of_a_folder(here):
    for name in ("b/file", "a/file", "c", ".hidden/x", "a/deep/er"):
        here.write(name, b"x")
    assert here.names() == ["a", "b", "c"]
    assert here.names("a") == ["deep", "file"]
    assert here.names("nowhere") == []


def test_missing_files_and_folders(here):
    with pytest.raises(FileNotFoundError):
        here.entry("nowhere")
    with pytest.raises(FileNotFoundError):
        here.read("nowhere")
    with pytest.raises(FileNotFoundError):
        here.open_read("nowhere")
    assert not here.exists("nowhere")
    here.remove("nowhere")


def test_many_are_read_in_order_and_errors_are_in_their_positions(here):
    for number in range(100):
        here.write(f"{number:03d}", b"%d" % number)
    entries = list(here.walk())
    entries.insert(50, Entry("gone", 0, ""))
    contents = list(here.read_many(entries))
    assert isinstance(contents.pop(50), FileNotFoundError)
    assert contents == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("size", [0, 100, 40_000_000])
def test_a_stream_is_written_and_read_completely(here, size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with here.open_write("stream.csv") as file:
        for at in range(0, size, 1_000_000):
            file.write(data[at : at + 1_000_000])
    with here.open_read("stream.csv") as file:
        assert file.read() == data
    (entry,) = here.walk()
    assert entry.size == size


@pytest.mark.parametrize("size", [1000, 40_000_000])
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), ConnectionResetError()])
def test_an_error_inside_the_block_leaves_the_old_file(here, tmp_path, size, error):
    here.write("a", b"old")

    def fill():
        with here.open_write("a") as file:
            file.write(bytes(size))
            raise error

    with pytest.raises(type(error)) as caught:
        fill()
    assert caught.value is error
    assert os.listdir(tmp_path / "here") == ["a"]
    assert here.read("a") == b"old"


def child(code: str, where: str) -> subprocess.Popen:
    """A Python process that runs `code`; returns once it has printed `ready`."""
    head = "import sys, time\nfrom visionflows.storage import open_storage\n"
    code = f"{head}out = open_storage(sys.argv[1])\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", code, where], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_process_killed_while_writing_leaves_no_file_under_the_name(here):
    writing = """
with out.open_write("weights") as file:
    file.write(b"half" * 10_000_000)
    file.flush()
    print("ready", flush=True)
    time.sleep(60)
"""
    kill(child(writing, str(here)))
    assert not here.exists("weights")
    assert list(here.walk()) == []


def test_a_lock_of_another_process_is_refused_until_it_dies(here):
    holder = child(
        'with out.lock(".lock"):\n print("ready", flush=True)\n time.sleep(60)', str(here)
    )
    with pytest.raises(LockedError, match="another run is writing here"), here.lock(".lock"):
        pass
    kill(holder)
    with here.lock(".lock"):
        pass
    assert here.names(".lock") == []


def test_a_renamed_folder_replaces_the_target(here):
    for name in ("parts/1", "parts/plan", "previous/1/old", "parts_too/1"):
        here.write(name, name.encode())
    here.rename("parts", "previous/1")
    assert [entry.name for entry in here.walk()] == [
        *("parts_too/1", "previous/1/1", "previous/1/plan")
    ]
    assert here.read("previous/1/plan") == b"parts/plan"


def test_the_access_check_leaves_nothing(here, tmp_path):
    here.check_writable()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_update_makes_and_changes_a_file(here):
    here.update("deep/count", lambda data: b"1" if data is None else None)
    here.update("deep/count", lambda data: data + b"2")
    here.update("deep/count", lambda data: None)
    assert here.read("deep/count") == b"12"


def test_a_held_lock_is_refused_and_a_released_one_is_free(here):
    for _ in range(2):
        with here.lock(".lock"):
            with pytest.raises(LockedError, match="another run"), here.lock(".lock"):
                pass
            with here.lock(".another"):
                pass
    assert list(here.walk()) == []


def test_a_lock_is_waited_for(here):
    held, ended = threading.Event(), []

    def hold():
        with here.lock(".lock"):
            held.set()
            time.sleep(0.3)
            ended.append(time.monotonic())

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with here.lock(".lock", wait=20):
        got = time.monotonic()
    thread.join()
    assert got >= ended[0]


def test_a_lock_is_held_by_one_thread_at_a_time(here):
    inside, most = [], []

    def work():
        with here.lock(".lock", wait=60):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
