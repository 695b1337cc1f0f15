"""Format names of files and classes for one line of a message."""


def format_names(names: list[str], remarks: list[str] | None = None) -> str:
    """Up to three names, each followed by its remark if there are remarks."""
    first = [format_name(name) for name in names[:3]]
    if remarks:
        first = [f"{name} ({remark})" for name, remark in zip(first, remarks, strict=False)]
    return ", ".join(first) + (", …" if len(names) > 3 else "")


def format_name(name: str) -> str:
    """A name as it is, or quoted if it is empty or would break the line."""
    return name if name and name.isprintable() else repr(name)
