"""What the pages share: a template, the one stylesheet, how numbers are told.

from visionflows.reports.page import page
page("scoring.html").render(run=run)

A page extends page.html: a block `title`, a block `header`, and a block `body` of sections, each
with an `<h2 id=…>` that gets its link below the header.
"""

import base64
import datetime
import functools
import io
import re
from pathlib import Path

import jinja2
from markupsafe import Markup
from PIL import Image


@functools.cache
def page(name: str) -> jinja2.Template:
    """The template of a page; what it is given is escaped, and what it lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["css"] = Markup((Path(__file__).parent / "style.css").read_text("utf-8"))
    environment.filters |= {
        "headings": _headings,
        "number": _number,
        "percent": percent,
        "share": lambda value: "–" if value is None else f"{value:.3f}",
        "when": lambda text: f"{datetime.datetime.fromisoformat(text):%d %B %Y, %H:%M %Z}",
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
        "jpeg": functools.partial(_url, "jpeg"),
        "png": _png,
    }
    return environment.get_template(name)


def _headings(body: str) -> list[tuple[str, Markup]]:
    """The id and the words of each h2, without what stands beside the words in a span."""
    found = re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', body, flags=re.DOTALL)
    bare = [(key, re.sub(r"<span.*?</span>|<[^>]+>", "", title)) for key, title in found]
    return [(key, Markup(title.strip())) for key, title in bare]


def _url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _png(png: bytes) -> str:
    """A PNG in the page: as a JPEG where it is full of photos, which take a fifth so."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=88, subsampling=0)
    jpeg = buffer.getvalue()
    return _url("jpeg", jpeg) if 2 * len(jpeg) < len(png) else _url("png", png)


def _number(value: float) -> str:
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(share: float) -> str:
    """A share in words. Never 100 % of what is not all of it."""
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        text = "99.9"
    return f"{text.removesuffix('.0')} %"
