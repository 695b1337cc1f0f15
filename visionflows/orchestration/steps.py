"""What every task of ours has in common.

    @step(name="merge", description="Join the parts into predictions.csv.")

No task is retried by Prefect: a download goes on by itself from the byte it had, and everything
else would fail again the same way. What travels between tasks lies in memory; there is no cached
result to look for.
"""

import functools

from prefect import task
from prefect.cache_policies import NO_CACHE

step = functools.partial(task, cache_policy=NO_CACHE)
