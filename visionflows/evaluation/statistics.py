"""Is a proportion of a run different from earlier runs, if runs differ by themselves?

scipy has these distributions, but the scoring install would grow by 113 MB (of about 505).

A run is a cluster: its files come from one camera, one delivery, one day. A test of independent
files would call every difference of large runs significant. The variance between runs is therefore
estimated from earlier runs, as a correlation within a run (Williams, Extra-binomial variation in
logistic linear models, Applied Statistics 31, 1982). Few runs estimate it badly: a prior worth
PRIOR_RUNS runs moderates it, upwards only, and the test is a t test with that many more degrees of
freedom (Smyth, Linear models and empirical Bayes methods, Statistical Applications in Genetics and
Molecular Biology 3, 2004).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

# The prior: the proportion of a run varies by a twentieth of itself (or of the rest, if smaller),
# with the weight of so many runs. Our own values, checked by bench/drift.py.
PRIOR_SPREAD, PRIOR_RUNS = 0.05, 6
MIN_EXPECTED = 5  # expected files below which a proportion is not normal (Cochran, 1954)

# Wilson's score interval (E. B. Wilson, JASA 22, 1927), which L. Brown, T. Cai and A. DasGupta
# (Statistical Science 16, 2001) recommend for small and large samples, also near 100 %.
Z = 1.959963984540054  # standard deviations around the mean that hold 95 %


class Proportion(NamedTuple):
    """A number of files, and of all files."""

    part: int
    total: int

    @property
    def value(self) -> float:
        """The proportion, 0 to 1."""
        return self.part / self.total

    @property
    def rest(self) -> "Proportion":
        """The proportion of the other files."""
        return Proportion(self.total - self.part, self.total)


def p_value(now: Proportion, before: Sequence[Proportion], only_more: bool = False) -> float:
    """The probability of a difference this large or larger between a run and those before it.

    With `only_more` it is one-sided: of a proportion that is so much larger.
    """
    count, total = (now[at] + sum(one[at] for one in before) for at in (0, 1))
    common, others = count / total, total - now.total
    earlier = (count - now.part) / others
    difference = now.value - earlier
    if not 0 < common < 1 or (only_more and difference <= 0):
        return 1.0
    if common > 0.5 and difference < 0:  # the rarer side decides
        return p_value(now.rest, [one.rest for one in before])
    correlation = _correlation(common, before)
    variance = _variance(now.total, correlation) + sum(
        (one.total / others) ** 2 * _variance(one.total, correlation) for one in before
    )
    # Plain, and with the variance stabilised (Cohen's h). The former is too eager for a rare
    # proportion that rises, the latter for one that falls.
    arcs = 2 * math.asin(math.sqrt(now.value)) - 2 * math.asin(math.sqrt(earlier))
    effect = min(abs(difference) / math.sqrt(common * (1 - common)), abs(arcs))
    p = student_t(effect / math.sqrt(variance), PRIOR_RUNS + len(before) - 1)
    p = p / 2 if only_more else p
    if count * now.total / total < MIN_EXPECTED and difference > 0:
        # The exact test of two rare rates (J. Przyborowski, H. Wilenski, Biometrika 31, 1940).
        p = max(p, binomial_tail(now.part, count, now.total / total))
    return p


def _variance(files: int, correlation: float) -> float:
    """The variance of a run's proportion, relative to that of one file."""
    return (1 + (files - 1) * correlation) / files


def _correlation(common: float, before: Sequence[Proportion]) -> float:
    """The correlation within a run, by Williams' moments; moderated if the prior is larger."""
    less = min(common, 1 - common)
    prior = PRIOR_SPREAD**2 * less / (1 - less)
    files, degrees = sum(one.total for one in before), len(before) - 1
    mean = sum(one.part for one in before) / files
    if degrees < 1 or not 0 < mean < 1:
        return prior
    squares = sum(one.total * (one.value - mean) ** 2 for one in before) / (mean * (1 - mean))
    scale = files - sum(one.total**2 for one in before) / files - degrees
    seen = max((squares - degrees) / scale, 0.0) if scale > 0 else 0.0
    return max(seen, (PRIOR_RUNS * prior + degrees * seen) / (PRIOR_RUNS + degrees))


def student_t(t: float, degrees: float) -> float:
    """The two-sided p-value of Student's t distribution."""
    return _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5)


def binomial_tail(count: int, total: int, rate: float) -> float:
    """The probability of `count` or more in a binomial sample of `total` with this rate."""
    return _incomplete_beta(rate, count, total - count + 1) if count > 0 else 1.0


def is_rate_below(count: int, total: int, rate: float, confidence: float) -> bool:
    """Whether `count` in a sample of `total` shows, with this confidence, a rate below `rate`.

    The exact upper bound of C. J. Clopper and E. S. Pearson (Biometrika 26, 1934), one-sided.
    """
    return binomial_tail(total - count, total, 1 - rate) <= 1 - confidence


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function by its continued fraction (Lentz; DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logs + a * math.log(x) + b * math.log1p(-x)) / a
    fraction, above, below = 1.0, 1.0, 0.0
    for step in range(1, 100_000):  # it takes about the square root of the larger of a and b
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below, above = 1 / (1 + term * below), 1 + term / above
        fraction *= above * below
        if abs(above * below - 1) < 1e-14:
            break
    return front / fraction


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number: Holm, A simple sequentially rejective multiple test
    procedure (Scandinavian Journal of Statistics 6, 1979)."""
    corrected, most = [1.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = most
    return corrected


def wilson_interval(right: float, total: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion, for a sample of one or more."""
    share, per = right / total, Z * Z / total
    middle = share + per / 2
    spread = Z * math.sqrt(share * (1 - share) / total + per / (4 * total))
    return max((middle - spread) / (1 + per), 0.0), min((middle + spread) / (1 + per), 1.0)
