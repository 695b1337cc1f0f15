"""Statuses an image can have, as written to the status column."""

from typing import Literal

Status = Literal["ok", "outlier", "unreadable", "too_large", "missing", "fetch_failed"]
STATUSES: tuple[Status, ...] = (
    *("ok", "outlier"),  # `outlier`: an outlier that gets no label
    *("unreadable", "too_large", "missing", "fetch_failed"),
)
SCORED_STATUSES = STATUSES[:2]


class BadImage(Exception):
    """An image that cannot be scored, with the status and reason of its row."""

    def __init__(self, status: Status, reason: str):
        super().__init__(status, reason)  # both, so that it can be pickled
        self.status: Status = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
