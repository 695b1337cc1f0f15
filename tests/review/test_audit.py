"""The accuracy estimate of an audit: its interval, and the rows that count."""

import math

import pytest

from visionflows.review.audit import estimate_accuracy, wilson_interval
from visionflows.review.corrections import Correction

SHA = "0" * 64


def correction(number: int, label: str, why: str = "audit", **more) -> Correction:
    run = {"model": "pets@1", "scored": "2026-11-26T02:00:00+00:00", "drawn": 100, **more}
    answer = "none" if not label else "right" if label == "cat" else "other"
    return Correction(f"{number}.jpg", SHA, label, answer, "cat", "0.9", why, **run)


def test_the_interval_is_the_wilson_interval():
    # As R's prop.test(95, 100, correct = FALSE).
    assert wilson_interval(95, 100) == pytest.approx((0.8882495, 0.9784554), abs=1e-6)
    assert wilson_interval(10, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_19_of_20_intervals_contain_the_true_share(share):
    held = sum(
        math.comb(100, right) * share**right * (1 - share) ** (100 - right)
        for right in range(101)
        if wilson_interval(right, 100)[0] <= share <= wilson_interval(right, 100)[1]
    )
    assert 0.92 < held <= 0.99


def test_the_last_answer_of_each_audited_row_counts_by_run():
    rows = [
        *(correction(number, "cat") for number in range(8)),
        correction(8, ""),  # none of the classes: the network was wrong
        correction(9, "cat"),
        correction(9, "dog"),  # a changed answer
        *(
            correction(number, "dog", why)
            for number in (20, 21)
            for why in ("uncertain", "outlier")
        ),
        correction(30, "cat", model="pets@2", scored="2026-11-27T02:00:00+00:00", drawn=60),
    ]
    new, old = estimate_accuracy(rows)
    assert (new.model, new.right, new.reviewed, new.drawn) == ("pets@2", 1, 1, 60)
    assert (old.right, old.reviewed, old.drawn, old.share) == (8, 10, 100, 0.8)
    assert old.description == "8 of 10 right: 80.0 % (95 % interval: 49.0 to 94.3 %)"
    assert old.as_dict()["high"] == pytest.approx(0.943, abs=1e-3)
    assert estimate_accuracy([]) == []
