"""Settings and error of `visionflows up`."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from visionflows.errors import VisionflowsError

DEPLOYMENTS = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
POOL = "visionflows"
USER = "admin"
UP_LOCK, SERVER_LOCK = "up.lock", "server.lock"  # in the state folder: one server at a time


class UpError(VisionflowsError):
    """The server, the worker or the deployments did not start, or stopped."""


class UpSettings(BaseModel):
    """How to serve this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: Annotated[str, AfterValidator(str.lower)] = "127.0.0.1"  # as browsers and clients send it
    """Address to listen on; a password is needed if other machines can reach it."""
    port: int = Field(4200, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    url: str = ""
    """Public URL of the UI, if a reverse proxy serves it."""
    state: Path = Path("~/.visionflows")
    """Folder of the database and the logs; by default ~/.visionflows."""
    database: str | None = Field(None, json_schema_extra={"envvar": "VISIONFLOWS_DATABASE"})
    """postgresql+asyncpg://user:password@host/name; by default SQLite in STATE."""
    password_file: Path | None = None
    """File with the password; by default VISIONFLOWS_PASSWORD."""
    deployments: Path = DEPLOYMENTS
    """Your changed copy of deployments/prefect.yaml; by default the installed one."""
    store: str = Field("store", json_schema_extra={"envvar": "VISIONFLOWS_STORE"})
    """Folder or s3:// URI of models, datasets and scores."""
