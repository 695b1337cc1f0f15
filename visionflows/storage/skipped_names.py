"""Names of files that a walk skips: hidden ones, those of programs, and those in transfer."""

import re

OWN = "own (store, output, cache)"
# Endings of files that programs are still transferring, and of files that are not here yet.
_TRANSFERS = (
    *(".part", ".filepart", ".partial", ".crdownload", ".download", ".opdownload", ".tmp"),
    *(".upload", ".uploading", ".inprogress"),
)
_NOT_DOWNLOADED = ".icloud"
# Left among images by macOS, Synology, QNAP, Windows, ext4, and Lightroom (previews are images).
_HIDDEN = {
    name.lower(): name
    for name in (
        *("__MACOSX", "Network Trash Folder", "Temporary Items"),
        *("@eaDir", "@tmp", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),
        *("$RECYCLE.BIN", "System Volume Information", "lost+found"),
    )
}
_HIDDEN_SUFFIXES = (".lrdata", ".lrcat-data")
_VERSION = re.compile(r"\d{8}t\d{9}z-[0-9a-f]{8}")  # of a model, whose folder holds its pictures


def hidden_kind(part: str) -> str:
    """Why a part of a name is hidden, such as `.*` or `@eaDir`; empty if it is not."""
    name = part.lower()
    if part.startswith("."):
        if name.endswith(_NOT_DOWNLOADED):
            return f"*{_NOT_DOWNLOADED} (not downloaded yet)"
        return "" if part in (".", "..") else ".*"
    suffix = next((f"*{suffix}" for suffix in _HIDDEN_SUFFIXES if name.endswith(suffix)), "")
    if re.fullmatch(r"found\.\d{3}", name):  # what Windows recovers from a damaged disk
        return "found.000"
    return OWN if _VERSION.fullmatch(name) else _HIDDEN.get(name, suffix)


def transfer_kind(name: str) -> str:
    """The ending by which a file is known to be in transfer, as `*.part`; else empty."""
    name = name.lower()
    if not name.endswith(_TRANSFERS):
        return ""
    return f"*{next(filter(name.endswith, _TRANSFERS))} (in transfer)"
