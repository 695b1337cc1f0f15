"""The chances of trust.chances, beside scipy's, and what they are of nights that differ."""

import numpy as np
import pytest
from scipy import stats

from visionflows.evaluation.statistics import Share, chance, fisher, holm, student


@pytest.mark.parametrize("freedom", [1, 3, 6, 19, 33, 400])
@pytest.mark.parametrize("t", [-40.0, -3.0, -0.2, 0.0, 0.1, 1.0, 2.5, 8.0, 30.0])
def test_students_distribution_is_that_of_scipy(t, freedom):
    assert student(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9)


@pytest.mark.parametrize(
    "table",
    [(5, 100, 8, 1000), (0, 50, 3, 900), (3, 3, 3, 20), (60, 100, 90, 120), (4, 10**6, 5, 10**9)],
)
def test_fishers_test_is_that_of_scipy(table):
    part, drawn, marked, whole = table
    expected = stats.hypergeom.sf(part - 1, whole, marked, drawn)
    assert fisher(*table) == pytest.approx(expected, rel=1e-5)


def test_holm_corrects_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_share_that_nobody_or_everybody_has_is_no_gap():
    assert chance(Share(0, 100), [Share(0, 100)]) == 1.0
    assert chance(Share(100, 100), [Share(300, 300)]) == 1.0


def test_both_sides_of_a_share_say_the_same():
    run_records = [Share(31, 400), Share(44, 500), Share(25, 300)]
    now = Share(80, 350)
    assert chance(now, run_records) == pytest.approx(
        chance(now.rest, [one.rest for one in run_records])
    )
    assert chance(now, run_records, only_more=True) == pytest.approx(chance(now, run_records) / 2)
    assert chance(Share(1, 350), run_records, only_more=True) == 1.0


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_ordinary_nights_are_seldom_thought_odd(spread):
    """At a level of 1 %, whether nights differ by themselves or not."""
    rng = np.random.default_rng(15)

    def run_record() -> Share:
        files = int(rng.integers(200, 1000))
        return Share(int(rng.binomial(files, np.clip(rng.normal(0.3, spread), 0, 1))), files)

    found = [chance(run_record(), [run_record() for _ in range(14)]) for _ in range(2000)]
    assert np.mean(np.array(found) < 0.01) <= 0.015


def test_among_millions_a_gap_as_large_as_nights_have_is_none():
    rng = np.random.default_rng(1)
    run_records = [Share(int(1e6 * share), 10**6) for share in rng.normal(0.5, 0.02, 20)]
    independent = stats.chi2_contingency([[530_000, 470_000], [500_000, 500_000]]).pvalue
    assert independent < 1e-300
    assert chance(Share(530_000, 10**6), run_records) > 0.05
    assert chance(Share(700_000, 10**6), run_records) < 1e-6


def test_a_few_failures_where_there_were_none_are_counted_exactly():
    found = chance(Share(3, 100), [Share(0, 500)], only_more=True)
    assert found >= stats.fisher_exact([[3, 97], [0, 500]], alternative="greater").pvalue * 0.999
