"""Run Prefect's own programs with the flows of visionflows, safely in any folder.

Prefect puts the working folder first on the path while it imports a flow, so a user's `tasks/` or
`email.py` would be imported. The flows are therefore imported before.
"""

import importlib
import os
import runpy
import sys

from visionflows.orchestration.flow_runs import fail_with_unknown_parameters
from visionflows.orchestration.heartbeat import FREQUENCY, HEARTBEAT
from visionflows.serve.child_processes import UP, end_with_parent

FOLDER = "VISIONFLOWS_FOLDER"  # where relative paths of runs begin


def main() -> None:
    """Run the engine, or the Prefect command that the arguments name.

    A run ends soon after its worker, and the worker of `visionflows up` soon after `up`.
    """
    os.environ.setdefault(FREQUENCY, str(HEARTBEAT))  # a work pool may not set it
    is_engine = sys.argv[1:] == ["engine"]
    if is_engine or UP in os.environ:
        end_with_parent(patience=4)
    if is_engine:
        os.chdir(os.environ.get(FOLDER) or os.getcwd())
    else:
        os.environ.setdefault(FOLDER, os.getcwd())
    for name in ("notify", "retrain", "score", "train"):
        importlib.import_module(f"flows.{name}")
    if is_engine:
        del sys.argv[1]  # the id of the run is in the environment
        sys.modules.pop("prefect.engine", None)  # imported by the flows; it runs as a program
    program = "prefect.engine" if is_engine else "prefect"
    try:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if is_engine and fail_with_unknown_parameters(ended.__context__):
            sys.exit(0)  # the run's state says what is wrong
        raise


if __name__ == "__main__":
    main()
