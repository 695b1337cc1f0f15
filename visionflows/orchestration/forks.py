"""Loader processes forked inside a flow run: they must not run Prefect's exit calls.

    from visionflows.orchestration import forks  # noqa: F401

Prefect 3.8's services leave exit calls with `threading`. A fork resets those services, so in the
child their calls fail an assertion, and torch's DataLoader takes the exit status for a crash.
"""

import os
import threading


def forget_exit_calls() -> None:
    """Drop the exit calls that a forked child has from its parent; they are the parent's."""
    threading._threading_atexits.clear()  # type: ignore[attr-defined]  # threading's own list


os.register_at_fork(after_in_child=forget_exit_calls)
