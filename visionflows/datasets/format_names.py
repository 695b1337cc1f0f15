"""Format names of files and classes for one line of a message."""

from collections.abc import Sequence

_MAX_NAME = 255  # characters, as in a file's name


def format_names(names: list[str], remarks: list[str] | None = None) -> str:
    """Up to three names, each followed by its remark if there are remarks."""
    first = [format_name(name) for name in names[:3]]
    if remarks:
        first = [f"{name} ({remark})" for name, remark in zip(first, remarks, strict=False)]
    return first_three(first + names[3:])


def first_three(texts: Sequence[str]) -> str:
    """Up to three texts of a list."""
    return ", ".join(texts[:3]) + (", …" if len(texts) > 3 else "")


def format_name(name: str) -> str:
    """A name as it is, or quoted if it is empty or would break the line; a long one is cut."""
    name = name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…"
    return name if name and name.isprintable() else repr(name)
