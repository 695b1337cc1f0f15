"""What the commands share: options, settings told in the command line's words, Prefect's manners.

from flows.cli_options import Store, settings_of
"""

import os
from typing import Annotated

import typer

Store = Annotated[
    str, typer.Option(envvar="VISIONFLOWS_STORE", help="Where runs keep what they make.")
]
ModelName = Annotated[
    str, typer.Option("--model", help="pets, pets@production, pets@<version>, or a bundle's place.")
]


def settings_of(kind, **values):
    """A settings object. Raises SettingsError in the words of the command line."""
    from pydantic import ValidationError

    from tasks.errors import SettingsError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = {"architecture": "arch"}.get(first["loc"][0], first["loc"][0]).replace("_", "-")
        raise SettingsError(f"--{option} {first['input']}: {first['msg'].lower()}") from error


def prefect_on_this_machine() -> None:
    """Run flows against the server that is configured, or one of Prefect's own for this process."""
    from flows.logs import to_terminal

    to_terminal(bool(os.environ.get("VISIONFLOWS_DEBUG")))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # A run's log goes to the server as ever; the terminal shows our lines, not Prefect's.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    # The first start of Prefect's own server makes its database: slow on a slow disk.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
