"""Archives for the datasets tests: valid and malicious ones."""

import io
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from visionflows.datasets import archive_entries
from visionflows.datasets.unpack import unpack
from visionflows.errors import ArchiveError

PHOTO = random.Random(1).randbytes(5_000)
FILES = {"pets/Cat 1.jpg": PHOTO, "pets/sub/dog.jpg": PHOTO[::-1], "pets/empty.jpg": b""}


def tar_of(*entries: tarfile.TarInfo | tuple[str, bytes], format=tarfile.PAX_FORMAT) -> bytes:
    """A tar of files (name, content) and of raw entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for entry in entries:
            if isinstance(entry, tuple):
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
            else:
                tar.addfile(entry)
    return buffer.getvalue()


def special(name: str, type: bytes, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, linkname
    return info


def link(name: str, to: str) -> tarfile.TarInfo:
    return special(name, tarfile.SYMTYPE, to)


def zip_of(*entries: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """A zip of files (name, content), and of links and devices in Unix form."""
    modes = {tarfile.SYMTYPE: 0o120777, tarfile.CHRTYPE: 0o020666, tarfile.FIFOTYPE: 0o010666}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in entries:
            if isinstance(entry, tuple):
                packed.writestr(*entry)
            else:
                info = zipfile.ZipInfo(entry.name)
                info.create_system = 3
                info.external_attr = modes[entry.type] << 16
                packed.writestr(info, entry.linkname)
    return buffer.getvalue()


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(tmp_path: Path, archive: bytes, name: str = "bad.tgz", **limits) -> str:
    """The error message of an archive that cannot be unpacked; nothing of it is left."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / name).write_bytes(archive)
    before = sorted(tmp_path.rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        for limit, value in limits.items():
            patch.setattr(archive_entries, limit, value)
        with pytest.raises(ArchiveError) as error:
            unpack(inside / name, inside / "out")
    assert sorted(tmp_path.rglob("*")) == before
    line = str(error.value)
    assert name in line
    assert "\n" not in line
    return line
