"""Names of files and classes in lines for people, however many and whatever they hold.

from visionflows.datasets.format_names import format_names
format_names(["1.jpg", "two\nlines.jpg"])               # 1.jpg, 'two\\nlines.jpg'
"""


def format_names(names: list[str], remarks: list[str] | None = None) -> str:
    """Up to three names, a remark after each if there are any, in one line."""
    first = [format_name(name) for name in names[:3]]
    if remarks:
        first = [f"{name} ({remark})" for name, remark in zip(first, remarks, strict=False)]
    return ", ".join(first) + (", …" if len(names) > 3 else "")


def format_name(name: str) -> str:
    """A name as it is, or quoted where it is empty or would break the line."""
    return name if name and name.isprintable() else repr(name)
