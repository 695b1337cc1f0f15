"""How a machine is served: what `visionflows up` takes, and what it raises.

UpSettings(port=0, state=Path("/var/lib/visionflows"))
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from visionflows.errors import VisionflowsError

DEPLOYMENTS = Path(__file__).parents[2] / "deployments" / "prefect.yaml"
POOL = "visionflows"
USER = "admin"


class UpError(VisionflowsError):
    """The server, the worker or the deployments could not be brought up, or went down."""


class UpSettings(BaseModel):
    """How to serve this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, AfterValidator(str.lower)] = Field(  # as browsers and clients send it
        "127.0.0.1", description="Address to listen on; beyond this machine needs a password."
    )
    port: int = Field(4200, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    url: str = Field("", description="Where people reach it, if that is another server before it.")
    state: Path = Field(
        Path("~/.visionflows"), description="Where the database and the logs are kept."
    )
    database: str | None = Field(
        None, description="postgresql+asyncpg://user:password@host/name; SQLite in STATE if none."
    )
    password_file: Path | None = Field(
        None, description="A file with the password; else VISIONFLOWS_PASSWORD has it."
    )
    deployments: Path = Field(
        DEPLOYMENTS, description="A changed copy of deployments/prefect.yaml to apply."
    )
    store: str = Field("store", description="Where runs keep what they make.")
