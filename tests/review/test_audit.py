"""The estimate of an audit: its interval holds what it promises, and only fair rows count."""

import math

import pytest

from visionflows.review.audit import estimates, wilson
from visionflows.review.corrections import Correction

SHA = "0" * 64


def said(number: int, label: str, why: str = "audit", **more) -> Correction:
    run = {"model": "pets@1", "scored": "2026-11-26T02:00:00+00:00", "drawn": 100, **more}
    answer = "none" if not label else "right" if label == "cat" else "other"
    return Correction(f"{number}.jpg", SHA, label, answer, "cat", "0.9", why, **run)


def test_the_interval_is_that_of_the_tables():
    # R's prop.test(95, 100, correct = FALSE) and the like.
    assert wilson(95, 100) == pytest.approx((0.8882495, 0.9784554), abs=1e-6)
    assert wilson(10, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_of_samples_19_in_20_have_the_true_share_in_their_interval(share):
    held = sum(
        math.comb(100, right) * share**right * (1 - share) ** (100 - right)
        for right in range(101)
        if wilson(right, 100)[0] <= share <= wilson(right, 100)[1]
    )
    assert 0.92 < held <= 0.99


def test_only_the_audit_counts_the_last_word_and_each_run_by_itself():
    rows = [
        *(said(number, "cat") for number in range(8)),
        said(8, ""),  # none of the classes: the network was wrong
        said(9, "cat"),
        said(9, "dog"),  # thought better of it
        *(said(number, "dog", why) for number in (20, 21) for why in ("uncertain", "outlier")),
        said(30, "cat", model="pets@2", scored="2026-11-27T02:00:00+00:00", drawn=60),
    ]
    new, old = estimates(rows)
    assert (new.model, new.right, new.looked_at, new.drawn) == ("pets@2", 1, 1, 60)
    assert (old.right, old.looked_at, old.drawn, old.share) == (8, 10, 100, 0.8)
    assert old.words == "8 of 10 right: 80.0 % (95 % interval: 49.0 to 94.3 %)"
    assert old.as_dict()["high"] == pytest.approx(0.943, abs=1e-3)
    assert estimates([]) == []
