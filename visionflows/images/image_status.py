"""What can become of an image, in the words of the column `status`.

from visionflows.images.image_status import STATUSES, BadImage
raise BadImage("unreadable", "empty file (0 bytes)")
"""

from typing import Literal

Status = Literal["ok", "outlier", "unreadable", "too_large", "missing", "fetch_failed"]
STATUSES: tuple[Status, ...] = (
    *("ok", "outlier"),  # what was seen by the network; `outlier` if such are to have no label
    *("unreadable", "too_large", "missing", "fetch_failed"),
)
SCORED_STATUSES = STATUSES[:2]


class BadImage(Exception):
    """An image that cannot be shown to a network: the status and reason of its row."""

    def __init__(self, status: Status, reason: str):
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason
