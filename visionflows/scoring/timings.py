"""Where a scoring run's time went, as run.json says it.

from visionflows.scoring.timings import timings
timings({"read": 1.0, "decode": 8.0, "forward": 20.0}, seconds=31.0, scored=1001)["limit"]
"""

from typing import Any

_NAMES = {"forward": "the network", "decode": "decoding", "read": "reading", "transfer": "sending"}


def timings(stages: dict[str, float], seconds: float, scored: int) -> dict[str, Any]:
    """Seconds, images a second, seconds of each stage per 1,000 images, and what limits them."""
    per_1000 = 1000 / max(scored, 1)
    return {
        "seconds": round(seconds, 3),
        "scored": scored,
        "images_per_second": round(scored / seconds, 2),
        "per_1000": {name: round(value * per_1000, 3) for name, value in stages.items()},
        "limit": _limit(stages, seconds, scored),
    }


def _limit(stages: dict[str, float], seconds: float, scored: int) -> str:
    """One plain sentence: which stage kept the others waiting."""
    if not scored:
        return "nothing was left to score"
    stage = max(_NAMES, key=lambda name: stages.get(name, 0.0))
    share = min(stages.get(stage, 0.0) / seconds, 1.0)
    return f"{stage}-bound: {_NAMES[stage]} takes {100 * share:.0f} % of the time"
