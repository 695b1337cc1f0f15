"""Downscaled copies of large photos: equal pixels, no incomplete copies, limited disk use."""

import os
import shutil
import time
from importlib import metadata

import icc_files
import numpy as np
import pytest
from conftest import picture
from small_disk import small_disk

from visionflows.images.color_profiles import attach_profile, attached_profile
from visionflows.images.decode_options import DecodeOptions
from visionflows.images.downscaled_cache import CacheWriter, DownscaledCache

SHA256S = [f"{number:064x}" for number in range(9)]
IMAGES = [picture(number, (50, 40)) for number in range(9)]
ONE = len("P6\n# crc32 01234567\n50 40\n255\n") + 50 * 40 * 3


@pytest.fixture
def copies(tmp_path) -> DownscaledCache:
    return DownscaledCache(tmp_path / "photos", DecodeOptions(side=16))


def kept(copies: DownscaledCache) -> set[int]:
    return {number for number, sha256 in enumerate(SHA256S) if copies.get(sha256)}


def age(copies: DownscaledCache, number: int, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(copies.path(SHA256S[number]), (then, then))


def test_a_copy_has_exactly_the_same_pixels(copies):
    assert copies.get(SHA256S[0]) is None
    CacheWriter(copies).write(SHA256S[0], IMAGES[0])
    copy = copies.get(SHA256S[0])
    assert (copy.mode, copy.size) == ("RGB", (50, 40))
    assert np.array_equal(copy, IMAGES[0])
    assert copies.path(SHA256S[0]).stat().st_size == ONE


@pytest.mark.parametrize("damage", ["cut", "zeros", "byte", "empty", "header", "longer", "other"])
def test_an_incomplete_copy_is_ignored_and_replaced(copies, damage):
    CacheWriter(copies).write(SHA256S[0], IMAGES[0])
    path = copies.path(SHA256S[0])
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-1],
            "zeros": data[:40] + bytes(len(data) - 40),
            "byte": data[:500] + bytes([data[500] ^ 1]) + data[501:],
            "empty": b"",
            "header": b"P6\n50 40\n255\n" + data[-6000:],
            "longer": data + b"\0",
            "other": b"\xff\xd8\xff",
        }[damage]
    )
    assert copies.get(SHA256S[0]) is None
    CacheWriter(copies).write(SHA256S[0], IMAGES[0])
    assert path.read_bytes() == data


def test_a_copy_keeps_the_profile_of_its_photo(copies):
    image = IMAGES[0].copy()
    attach_profile(image, icc_files.SWAPPED)
    CacheWriter(copies).write(SHA256S[0], image)
    copy = copies.get(SHA256S[0])
    assert attached_profile(copy) == icc_files.SWAPPED
    assert copy.tobytes() == image.tobytes()


def test_other_decode_options_have_separate_copies(copies):
    CacheWriter(copies).write(SHA256S[0], IMAGES[0])
    for decode_options in (
        DecodeOptions(side=17),
        DecodeOptions(),
        DecodeOptions(side=16, color_profiles="convert"),
    ):
        assert DownscaledCache(copies.folder, decode_options).get(SHA256S[0]) is None


def test_the_oldest_copies_of_other_trainings_are_removed_first(copies):
    for number in (0, 1, 2):
        CacheWriter(copies).write(SHA256S[number], IMAGES[number])
        age(copies, number, seconds=1000 - number)
    (copies.own_folder / ".torn").write_bytes(b"of a writer that was killed")
    os.utime(copies.own_folder / ".torn", (0, 0))
    writer = CacheWriter(copies, max_bytes=3 * ONE)
    writer.write(SHA256S[0], IMAGES[0])  # the oldest, and ours now
    writer.write(SHA256S[3], IMAGES[3])
    assert kept(copies) == {0, 2, 3}
    assert not (copies.own_folder / ".torn").exists()


def test_a_full_cache_keeps_its_copies_and_warns_once(copies, caplog):
    writer = CacheWriter(copies, max_bytes=2 * ONE)
    for number in range(5):
        writer.write(SHA256S[number], IMAGES[number])
    assert kept(copies) == {0, 1}
    assert len(caplog.messages) == 1
    assert "no room for copies of more large photos" in caplog.text


def test_half_of_the_disk_stays_free(caplog, tmp_path):
    with small_disk(tmp_path / "disk", "2m") as disk:
        copies = DownscaledCache(disk / "photos", DecodeOptions(side=16))
        writer = CacheWriter(copies)
        for number, sha256 in enumerate(SHA256S):
            writer.write(sha256, picture(number, (300, 200)))  # 180 kB
        found, free = kept(copies), shutil.disk_usage(disk).free
    assert found == {0, 1, 2, 3, 4}
    assert free > 1 << 20
    assert len(caplog.messages) == 1


def test_older_copies_are_removed_if_the_disk_is_filled_by_others(tmp_path):
    with small_disk(tmp_path / "disk", "2m") as disk:
        copies = DownscaledCache(disk / "photos", DecodeOptions(side=16))
        for number in range(4):
            CacheWriter(copies).write(SHA256S[number], picture(number, (300, 200)))
            age(copies, number, seconds=1000 - number)
        (disk / "of-others").write_bytes(bytes(1 << 20))
        CacheWriter(copies).write(SHA256S[4], picture(4, (300, 200)))
        found = kept(copies)
    assert found == {3, 4}


def test_a_full_disk_is_a_warning(caplog, tmp_path):
    with small_disk(tmp_path / "disk", "2m") as disk:
        copies = DownscaledCache(disk / "photos", DecodeOptions(side=16))
        writer = CacheWriter(copies)
        for number, sha256 in enumerate(SHA256S):
            writer.write(sha256, picture(number, (700, 600)))  # 1,260 kB
        found = kept(copies)
    assert found == set()
    assert len(caplog.messages) == 1


def test_a_cache_that_cannot_be_created_is_a_warning(tmp_path, caplog):
    (tmp_path / "photos").write_text("a file")
    writer = CacheWriter(DownscaledCache(tmp_path / "photos", DecodeOptions(side=16)))
    for number in range(3):
        writer.write(SHA256S[number], IMAGES[number])
    assert len(caplog.messages) == 1
    assert "photos: no room for copies" in caplog.text


def test_a_copy_removed_by_another_training_is_not_an_error(copies):
    class Fleeting(DownscaledCache):
        def get(self, sha256):
            image = super().get(sha256)
            self.path(sha256).unlink(missing_ok=True)
            return image

    CacheWriter(copies).write(SHA256S[0], IMAGES[0])
    CacheWriter(Fleeting(copies.folder, copies.decode_options)).write(SHA256S[0], IMAGES[0])
    assert kept(copies) == set()


def test_temporary_files_that_disappear_are_ignored(copies, caplog):
    copies.own_folder.mkdir(parents=True)
    for number in range(3):
        (copies.own_folder / f".gone-{number}").symlink_to("renamed")  # listed, but missing
    writer = CacheWriter(copies)
    writer.write(SHA256S[0], IMAGES[0])
    assert kept(copies) == {0}
    assert not caplog.messages


def test_a_temporary_file_of_another_training_stays(copies):
    CacheWriter(copies).write(SHA256S[0], IMAGES[0])
    temporary = copies.own_folder / ".of-another"
    temporary.write_bytes(bytes(ONE))
    CacheWriter(copies, max_bytes=ONE).write(SHA256S[1], IMAGES[1])
    assert kept(copies) == {1}
    assert temporary.exists()


def test_another_version_has_separate_copies(copies, monkeypatch):
    before = copies.own_folder
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "99" if name == "visionflows" else real(name)
    )
    assert DownscaledCache(copies.folder, copies.decode_options).own_folder != before
