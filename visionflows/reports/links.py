"""Links between the pages, the CSV and the model's report."""

import os
from typing import NamedTuple
from urllib.parse import quote

from visionflows.scoring.schema import RunResult
from visionflows.storage import open_location, split_bucket


class Link(NamedTuple):
    """A title and a relative address; without an address the location is shown as text."""

    title: str
    address: str
    location: str = ""


def relative_address(location: str, folder: str) -> str:
    """The URL of a location relative to a folder; empty if one is in a bucket the other is not in.

    >>> relative_address("s3://bucket/models/a b/report.html", "s3://bucket/scores/pets")
    '../../models/a%20b/report.html'
    """
    (host, path), (other_host, start) = map(split_bucket, (location, folder))
    if host != other_host:
        return ""
    return quote(os.path.relpath(path, start), errors="surrogateescape")


def link_to_model(artifact: str, folder: str, title: str = "Training report") -> Link:
    """A link from a page in `folder` to the training report in a model artifact."""
    location = "".join(split_bucket(f"{artifact}/report.html"))
    return Link(title, relative_address(location, folder), location)


def folder_of(run: RunResult) -> str:
    """The location of the folder in which the pages of a run lie."""
    return f"{str(open_location(run.output)).rstrip('/')}/{run.folder}"


def link_to_run(run: RunResult, current: str) -> list[Link]:
    """Links from one page of a scoring run to the others, the CSV and the model's report."""
    up = "../" if run.folder else ""
    pages = [
        Link("Scoring report", "report.html"),
        Link("Review", "review.html"),
        *([Link("Run history", f"{up}history.html")] if run.drift else []),
        *(Link(name, up + quote(name)) for name in run.files if name.endswith(".csv")),
        link_to_model(str(open_location(run.model.storage)), folder_of(run)),
    ]
    return [link for link in pages if link.address != current]
