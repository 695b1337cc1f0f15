"""The part of a scoring report that says how right its labels are, by the people who looked.

    from visionflows.reports.audit import with_audits
    html = with_audits(html, estimates(corrections))     # visionflows.review.audit

A report is a file that stays; what people say of its run comes later, and then stands in it.
"""

import re
from collections.abc import Sequence

from visionflows.reports.page import page
from visionflows.review.audit import Estimate

ROWS = 30  # audited runs that are shown
_PART = re.compile("<!-- audit -->.*<!-- /audit -->", re.DOTALL)


def with_audits(report: str, estimates: Sequence[Estimate]) -> str:
    """The page of a scoring run with these estimates in place of those that it had, if any.

    One of a version that had no place for them comes back as it is.
    """
    part = page("audit.html").render(estimates=estimates[:ROWS]).strip()
    return _PART.sub(lambda _: part, report, count=1)


def has_audits(report: str) -> bool:
    """Whether the page of a scoring run has a place for estimates."""
    return _PART.search(report) is not None
