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

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, AfterValidator(str.lower)] = Field(  # as browsers and clients send it
        "127.0.0.1", description="Address to listen on; other machines' access needs a password."
    )
    port: int = Field(4200, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    url: str = Field("", description="Public URL, if a reverse proxy serves the UI.")
    state: Path = Field(
        Path("~/.visionflows"),
        description="Folder of the database and the logs; by default ~/.visionflows.",
    )
    database: str | None = Field(
        None,
        description="postgresql+asyncpg://user:password@host/name; by default SQLite in STATE.",
        json_schema_extra={"envvar": "VISIONFLOWS_DATABASE"},
    )
    password_file: Path | None = Field(
        None, description="File with the password; by default VISIONFLOWS_PASSWORD."
    )
    deployments: Path = Field(
        DEPLOYMENTS,
        description="Your changed copy of deployments/prefect.yaml; by default the installed one.",
    )
    store: str = Field(
        "store",
        description="Folder or s3:// URI of models, datasets and scores.",
        json_schema_extra={"envvar": "VISIONFLOWS_STORE"},
    )
