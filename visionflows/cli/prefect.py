"""Prefect's own programs with the flows of visionflows, whatever lies in the folder.

    python3 -P -m visionflows.cli.prefect engine                  a flow run, as a worker starts it
    python3 -P -m visionflows.cli.prefect worker start --pool …   any of Prefect's commands

Prefect puts the folder in which it works first on the path while it imports a flow: a `tasks/` or
an `email.py` of the user's would be taken for ours. So ours are imported before, from their place.
"""

import os
import runpy
import sys

from visionflows.orchestration.heartbeat import FREQUENCY, HEARTBEAT
from visionflows.serve.child_processes import UP, end_with_parent


def main() -> None:
    """Run the engine, or the command that the arguments name; Prefect exits by itself.

    A run ends soon after its worker, and the worker of `visionflows up` soon after that.
    """
    os.environ.setdefault(FREQUENCY, str(HEARTBEAT))  # a pool of one's own may not say it
    if sys.argv[1:] == ["engine"] or UP in os.environ:
        end_with_parent(patience=4)
    import flows.notify  # noqa: F401
    import flows.retrain  # noqa: F401
    import flows.score  # noqa: F401
    import flows.train  # noqa: F401

    if sys.argv[1:] != ["engine"]:
        runpy.run_module("prefect", run_name="__main__", alter_sys=True)
        return
    del sys.argv[1]  # the id of the run is in the environment
    sys.modules.pop("prefect.engine", None)  # the flows have imported it; it runs as a program
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
