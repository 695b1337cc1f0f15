"""Our statistics give scipy's results; p-values of runs allow for variance between runs."""

import numpy as np
import pytest
from scipy import stats

from visionflows.evaluation.statistics import Proportion, binomial_tail, holm, p_value, student_t


@pytest.mark.parametrize("freedom", [1, 3, 6, 19, 33, 400])
@pytest.mark.parametrize("t", [-40.0, -3.0, -0.2, 0.0, 0.1, 1.0, 2.5, 8.0, 30.0])
def test_students_t_is_that_of_scipy(t, freedom):
    assert student_t(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9)


@pytest.mark.parametrize("rate", [0.005, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("count, total", [(0, 5), (1, 5), (3, 3), (60, 120), (8, 1000), (5, 10**6)])
def test_the_binomial_tail_is_that_of_scipy(count, total, rate):
    expected = stats.binom.sf(count - 1, total, rate)
    assert binomial_tail(count, total, rate) == pytest.approx(expected, rel=1e-8)


def test_holm_corrects_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_share_of_none_or_all_has_no_difference():
    assert p_value(Proportion(0, 100), [Proportion(0, 100)]) == 1.0
    assert p_value(Proportion(100, 100), [Proportion(300, 300)]) == 1.0


def test_a_share_and_its_rest_have_the_same_p_value():
    runs = [Proportion(31, 400), Proportion(44, 500), Proportion(25, 300)]
    now = Proportion(80, 350)
    assert p_value(now, runs) == pytest.approx(p_value(now.rest, [one.rest for one in runs]))
    assert p_value(now, runs, only_more=True) == pytest.approx(p_value(now, runs) / 2)
    assert p_value(Proportion(1, 350), runs, only_more=True) == 1.0


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_ordinary_runs_seldom_have_small_p_values(spread):
    """At a level of 1 %, with and without variance between runs."""
    rng = np.random.default_rng(15)

    def run() -> Proportion:
        files = int(rng.integers(200, 1000))
        return Proportion(int(rng.binomial(files, np.clip(rng.normal(0.3, spread), 0, 1))), files)

    found = [p_value(run(), [run() for _ in range(14)]) for _ in range(2000)]
    assert np.mean(np.array(found) < 0.01) <= 0.015


def test_a_difference_within_the_variance_of_large_runs_is_not_significant():
    rng = np.random.default_rng(1)
    runs = [Proportion(int(1e6 * share), 10**6) for share in rng.normal(0.5, 0.02, 20)]
    independent = stats.chi2_contingency([[530_000, 470_000], [500_000, 500_000]]).pvalue
    assert independent < 1e-300
    assert p_value(Proportion(530_000, 10**6), runs) > 0.05
    assert p_value(Proportion(700_000, 10**6), runs) < 1e-6


def test_a_few_failures_where_there_were_none_are_counted_exactly():
    found = p_value(Proportion(3, 100), [Proportion(0, 500)], only_more=True)
    assert found >= stats.fisher_exact([[3, 97], [0, 500]], alternative="greater").pvalue * 0.999
