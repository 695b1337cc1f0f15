"""A cluster that cannot be started on this machine."""

import tempfile

import pytest

from visionflows.cluster.nodes import connected
from visionflows.errors import SettingsError


def test_a_folder_for_temporary_files_with_a_long_name_is_named(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    folder = tmp_path / ("x" * 110)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with (
        pytest.raises(SettingsError, match=f"^TMPDIR={folder}: too long for Ray"),
        connected("ray"),
    ):
        pass
