"""Chances: is a share another one tonight, where nights differ by themselves? Nothing heavy.

    from visionflows.evaluation.statistics import Share, chance, holm
    chance(Share(70, 100), [Share(49, 100), Share(52, 100)])

A night is a cluster: its files come from one camera, one delivery, one day. With millions of files
a test that takes them for independent calls every difference significant, so the chance of a gap is
asked of what nights differ by, as far as the history tells it: by the correlation within a night
(Williams, Extra-binomial variation in logistic linear models, Applied Statistics 31, 1982). A few
nights tell that badly: it is moderated, upwards alone, by a prior worth PRIOR_NIGHTS of them, and
the test is a t test with as many degrees of freedom more, as in Smyth, Linear models and empirical
Bayes methods (Statistical Applications in Genetics and Molecular Biology 3, 2004).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

# Before the history says otherwise, the share of a night is taken to vary by a twentieth of itself
# (or of the rest, if that is less), as sure as if that many nights had shown it. Ours, and checked
# by bench/drift.py.
PRIOR_SPREAD, PRIOR_NIGHTS = 0.05, 6
RARE = 5  # below so many expected files a share's distribution is not normal (Cochran, 1954)


class Share(NamedTuple):
    """So many files, of all."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.part / self.whole

    @property
    def rest(self) -> "Share":
        """The other files, of all."""
        return Share(self.whole - self.part, self.whole)


def chance(now: Share, before: Sequence[Share], only_more: bool = False) -> float:
    """The chance of a gap as large as that between a night and those before it, or larger, were
    it a night like them; `only_more`: of a share that is so much larger."""
    part, whole = (now[at] + sum(one[at] for one in before) for at in (0, 1))
    common, others = part / whole, whole - now.whole
    gap = now.value - (part - now.part) / others
    if not 0 < common < 1 or (only_more and gap <= 0):
        return 1.0
    if common > 0.5 and gap < 0:  # the rarer side is the one that tells
        return chance(now.rest, [one.rest for one in before])
    clumped = _clumped(common, before)
    spread = _spread(now.whole, clumped) + sum(
        (one.whole / others) ** 2 * _spread(one.whole, clumped) for one in before
    )
    # Plain, and with the variance made stable: the former is too eager for a rare share that rises,
    # the latter (Cohen's h) for one that falls.
    arcs = 2 * math.asin(math.sqrt(now.value)) - 2 * math.asin(
        math.sqrt((part - now.part) / others)
    )
    sizes = abs(gap) / math.sqrt(common * (1 - common)), abs(arcs)
    found = student(min(sizes) / math.sqrt(spread), PRIOR_NIGHTS + len(before) - 1)
    found = found / 2 if only_more else found
    if part * now.whole / whole < RARE and gap > 0:
        found = max(found, fisher(now.part, now.whole, part, whole))
    return found


def _spread(files: int, clumped: float) -> float:
    """The variance of a night's share, over that of one file."""
    return (1 + (files - 1) * clumped) / files


def _clumped(common: float, before: Sequence[Share]) -> float:
    """The correlation within a night, estimated by moments as Williams does; moderated where the
    prior is the larger."""
    less = min(common, 1 - common)
    prior = PRIOR_SPREAD**2 * less / (1 - less)
    files, run_records = sum(one.whole for one in before), len(before)
    mean = sum(one.part for one in before) / files
    if run_records < 2 or not 0 < mean < 1:
        return prior
    squares = sum(one.whole * (one.value - mean) ** 2 for one in before) / (mean * (1 - mean))
    room = files - sum(one.whole**2 for one in before) / files - (run_records - 1)
    seen = max((squares - (run_records - 1)) / room, 0.0) if room > 0 else 0.0
    return max(
        seen, (PRIOR_NIGHTS * prior + (run_records - 1) * seen) / (PRIOR_NIGHTS + run_records - 1)
    )


def student(t: float, freedom: float) -> float:
    """The chance of |t| or more under Student's distribution."""
    return _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def at_most(part: int, whole: int, share: float) -> float:
    """The chance of `part` or fewer in a binomial sample of `whole`, each of them of that share."""
    return _beta(1 - share, whole - part, part + 1) if part < whole else 1.0


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz's method; DLMF
    8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logs + a * math.log(x) + b * math.log1p(-x)) / a
    fraction, above, below = 1.0, 1.0, 0.0
    for step in range(1, 100_000):  # it takes about the root of the larger of a and b
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


def fisher(part: int, drawn: int, marked: int, whole: int) -> float:
    """The chance of `part` or more marked ones among `drawn` of `whole`, of which `marked` are:
    Fisher's exact test, one-sided."""

    def ways(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    total = 0.0
    for found in range(max(part, drawn + marked - whole), min(drawn, marked) + 1):
        some = ways(marked, found) + ways(whole - marked, drawn - found) - ways(whole, drawn)
        total += (term := math.exp(some))
        if term < 1e-17 * total:
            break
    return min(total, 1.0)


def holm(chances: Sequence[float]) -> list[float]:
    """The same, corrected for how many there are: Holm, A simple sequentially rejective multiple
    test procedure (Scandinavian Journal of Statistics 6, 1979)."""
    corrected, most = [1.0] * len(chances), 0.0
    for rank, at in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        most = max(most, min(1.0, (len(chances) - rank) * chances[at]))
        corrected[at] = most
    return corrected
