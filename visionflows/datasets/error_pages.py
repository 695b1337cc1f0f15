"""What a server answered instead of an archive: a login page, an error in JSON, nothing at all.

    from visionflows.datasets.error_pages import check_answer
    check_answer("https://example.org/pets.tgz", Path("store/datasets/.archives/0f…"))

They come with 200, as if all were well: only the bytes tell.
"""

from pathlib import Path
from urllib.parse import urlsplit

from visionflows.datasets.content_sniffing import HEAD, kind_of
from visionflows.errors import ArchiveError

# What a page of these hosts wants instead; of any subdomain too.
_HINTS = {
    "dropbox.com": "end the address in ?dl=1, and share it with everyone who has the link",
    "drive.google.com": "open it in a browser, download the file there, and give that",
    "docs.google.com": "open it in a browser, download the file there, and give that",
    "onedrive.live.com": "open it in a browser, download the file there, and give that",
    "kaggle.com": "kaggle wants a login: run kaggle datasets download, and give the file",
    "github.com": "add ?raw=true to the address of a file",
    "huggingface.co": "write /resolve/ in the address where it says /blob/",
}
_HINT = "open it in a browser: if it wants a login, download the file there and give that"


def check_answer(url: str, imported: Path) -> None:
    """Nothing, if what was brought from `url` may be an archive. Raises ArchiveError."""
    with imported.open("rb") as file:
        head = file.read(HEAD)
    kind = kind_of(head)
    if head and not (kind and kind.is_text):
        return
    host = f".{urlsplit(url).hostname or ''}"
    hint = next((hint for name, hint in _HINTS.items() if host.endswith(f".{name}")), _HINT)
    what = kind.what if kind else "nothing (0 bytes)"
    raise ArchiveError(f"{url}: answered with {what}, not with an archive; {hint}")
