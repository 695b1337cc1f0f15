"""The embedded dataset: handwritten digits, as an archive that is fetched like any other."""

import gzip
import io
import tarfile
from pathlib import Path

from visionflows.datasets.download import RemoteVersion
from visionflows.storage.local import LocalStorage

DIGIT_SIZE = 32


def write_digits(archive: Path) -> RemoteVersion:
    """Write scikit-learn's 1,797 handwritten digits into a .tgz as `digits/<label>/…png`.

    The same versions of scikit-learn, Pillow and zlib write the same bytes. The source is the
    test set of Alpaydin and Kaynak's Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    with (
        LocalStorage(archive.parent).open_write(archive.name) as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for index, (label, grey) in enumerate(zip(digits.target, digits.images, strict=True)):
            # 0 to 16 becomes 0 to 255. Networks halve a picture five times, so 8 × 8 would end
            # below one pixel: 32 × 32 it is, by bicubic interpolation, as people see a stroke.
            image = Image.fromarray((grey * (255 / 16)).round().astype("uint8"))
            content = io.BytesIO()
            image.resize((DIGIT_SIZE, DIGIT_SIZE), Image.Resampling.BICUBIC).save(content, "PNG")
            # A TarInfo starts with mtime 0, uid 0 and no names: nothing of this machine.
            info = tarfile.TarInfo(f"digits/{label}/{label}_{index:04}.png")
            info.size = content.tell()
            content.seek(0)
            tar.addfile(info, content)
    return RemoteVersion()
