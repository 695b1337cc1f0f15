"""Render a page: its template, the stylesheet, and the filters that format values."""

import base64
import datetime
import functools
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from visionflows.escaping import printable, utf8
from visionflows.reports.metrics import LEFT_OUT, confusion_values, label_pairs

_FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """A template with its values, escaped in HTML. Without one: jinja2.UndefinedError."""
    return utf8(_load_template(template).render(values)).decode()


def describe(what: str, subject: Any) -> str:
    """Sentences about a model, a comparison or a run, by the macro `what` of sentences.txt."""
    return " ".join(describe_lines(what, subject))


def describe_lines(what: str, subject: Any) -> list[str]:
    """The same, a line each."""
    text: str = getattr(_load_template("sentences.txt").module, what)(subject)
    return [line for line in text.splitlines() if line]


@functools.cache
def _load_template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=jinja2.select_autoescape(),  # of HTML
        undefined=jinja2.StrictUndefined,
        # In markdown macros return text of several lines; `text` and `code` of artifacts do it.
        finalize=None if name.endswith(".md") else _printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["css"] = Markup((_FOLDER / "style.css").read_text("utf-8"))
    environment.globals |= {"describe": describe, "describe_lines": describe_lines}
    environment.globals |= {"confusion_values": confusion_values, "label_pairs": label_pairs}
    environment.globals |= {"reasons_left_out": LEFT_OUT}
    environment.filters |= _FILTERS
    return environment.get_template(name)


def _printable(value: Any) -> Any:
    """A value of a template as it is shown; markup is our own."""
    return printable(value) if type(value) is str else value


def _find_headings(body: str) -> list[tuple[str, Markup]]:
    """The id and the text of each h2, without the text of spans in it."""
    found = re.findall(r'<h2 id="([^"]+)"[^>]*>(.*?)</h2>', body, flags=re.DOTALL)
    bare = [(key, re.sub(r"<span.*?</span>|<[^>]+>", "", title)) for key, title in found]
    return [(key, Markup(title.strip())) for key, title in bare]


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _embed_picture(png: bytes) -> str:
    """A PNG as WebP, which keeps transparency and takes a fifth of the size for photos."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "WEBP", quality=88)
    return _data_url("webp", buffer.getvalue())


def format_number(value: float) -> str:
    """A number with thousands separators, or with three significant digits below 100."""
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def format_count(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: `1 run`, `1,234 runs`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def format_percent(share: float) -> str:
    """A share as percent with one decimal. Only a share of exactly 1 is shown as 100 %."""
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        text = "99.9"
    return f"{text.removesuffix('.0')} %"


_FILTERS: dict[str, Callable[..., Any]] = {
    "headings": _find_headings,
    "number": format_number,
    "percent": format_percent,
    "plural": format_count,
    "decimals": lambda value: "–" if value is None else f"{value:.3f}",
    "time": lambda text: f"{datetime.datetime.fromisoformat(text):%-d %B %Y, %H:%M %Z}",
    "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
    "capitalized": lambda text: f"{text[:1].upper()}{text[1:]}",
    "jpeg": lambda data: _data_url("jpeg", data),
    "picture": _embed_picture,
}
