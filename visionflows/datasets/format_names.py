"""Names of files and classes in lines for people, however many and whatever they hold.

from visionflows.datasets.format_names import some
some(["1.jpg", "two\nlines.jpg"])               # 1.jpg, 'two\\nlines.jpg'
"""


def some(names: list[str], remarks: list[str] | None = None) -> str:
    """Up to three names, a remark after each if there are any, in one line."""
    first = [shown(name) for name in names[:3]]
    if remarks:
        first = [f"{name} ({remark})" for name, remark in zip(first, remarks, strict=False)]
    return ", ".join(first) + (", …" if len(names) > 3 else "")


def shown(name: str) -> str:
    """A name as it is, or quoted where it is empty or would break the line."""
    return name if name and name.isprintable() else repr(name)
