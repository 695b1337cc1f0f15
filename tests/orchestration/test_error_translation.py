"""Errors of the system and of libraries become one line with a fix."""

import errno
import os
import shutil
import tempfile

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from small_disk import small_disk
from unprivileged import unprivileged

from visionflows.errors import SettingsError, VisionflowsError
from visionflows.orchestration import events, server
from visionflows.orchestration.error_translation import translate, translate_errors
from visionflows.storage import open_cache, open_storage

NOBODY_THERE = "http://me:pa55word@127.0.0.1:9/api"


def line_of(function) -> str:
    """The raised error, translated to one line."""
    with pytest.raises(VisionflowsError) as caught:
        translate_errors(function)()
    line = str(caught.value)
    assert "\n" not in line
    assert "pa55word" not in line
    return line


def test_a_full_folder_for_temporary_files_is_named(tmp_path, monkeypatch):
    with small_disk(tmp_path / "small", "64k") as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))

        def fill():
            with tempfile.TemporaryFile() as file:
                file.write(bytes(1 << 20))
                file.flush()

        assert line_of(fill) == (
            f"{folder}: no space left for temporary files; free some, or set TMPDIR"
        )


def test_another_full_disk_does_not_mention_tmpdir(tmp_path):
    def write():
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    assert "TMPDIR" not in line_of(write)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    missing = tmp_path / "gone"
    assert line_of(missing.read_bytes).startswith(f"{missing}: no such file or directory; ")
    assert line_of(tmp_path.read_bytes).startswith(f"{tmp_path}: is a directory; ")


def test_out_of_memory_is_translated():
    import torch

    for ask in (lambda: bytearray(1 << 62), lambda: torch.empty(1 << 60)):
        assert line_of(ask) == "not enough memory; use a smaller --batch-size or fewer --workers"


def test_too_many_open_files_is_translated():
    def open_many():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    assert "ulimit -n" in line_of(open_many)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to be another user")
def test_a_user_without_a_home_is_told_to_set_one(monkeypatch):
    for name in ("HOME", "VISIONFLOWS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    line = unprivileged(lambda: line_of(open_cache), user=54321)  # one without an account
    assert line == "HOME: not set, and this user has none; set it to a writable folder"


def test_an_unavailable_server_is_one_line():
    with temporary_settings({PREFECT_API_URL: NOBODY_THERE}):
        for ask in (server.check, lambda: httpx.get(NOBODY_THERE, trust_env=False)):
            line = line_of(ask)
            assert line.startswith("PREFECT_API_URL=http://127.0.0.1:9/api cannot be reached")
            assert "unset PREFECT_API_URL" in line


def test_a_promotion_without_its_server_is_done_and_reported(trained, tmp_path):
    shutil.copytree(trained.store, tmp_path / "store")
    store = open_storage(tmp_path / "store")
    with temporary_settings({PREFECT_API_URL: NOBODY_THERE}):
        line = line_of(lambda: events.promote("shapes", str(tmp_path / "store"), "staging"))
    assert ": promoted to staging, but the server did not receive the event" in line
    assert store.exists("models/shapes/aliases/staging")


def test_an_unknown_error_is_kept_with_urls_redacted():
    def wrong():
        raise ZeroDivisionError("of http://me:pa55word@host/x")

    with pytest.raises(ZeroDivisionError, match="of http://host/x"):
        translate_errors(wrong)()
    assert translate(ZeroDivisionError()) is None
    ours = SettingsError("so it is")
    assert translate(ours) is ours
