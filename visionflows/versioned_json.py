"""A JSON file of ours, read as a stranger would: it is what its schema says, or it is refused.

    class Plan(Stored):
        VERSION = 1
        schema_version: int
        input: str

    Plan.read(data).input
    Plan(schema_version=1, input="inbox").text()

What such a file holds is checked by pydantic in its strict mode: a number is no text, nor a text a
number. A file of a version that this code does not know yet is refused by its version.
"""

import json
from typing import Annotated, Any, ClassVar, Self

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionflows.errors import one_line

Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SchemaError(ValueError):
    """What a file holds is not what its schema says: why, in a few words."""


class NewerVersionError(SchemaError):
    """A file that a later version of this code wrote."""


class JsonObject(BaseModel):
    """A part of such a file."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)


class VersionedJson(JsonObject):
    """A JSON file of ours; its schema says what it may hold, and in which order it is written."""

    VERSION: ClassVar[int]
    schema_version: int

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The content of a file. Raises SchemaError (NewerVersionError) in a few words on one line."""
        try:
            found = pydantic_core.from_json(data)
        except ValueError as error:
            raise SchemaError(one_line(f"not JSON ({error})")) from error
        version = found.get("schema_version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > cls.VERSION:
            raise NewerVersionError("written by a newer visionflows; update this one to read it")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise SchemaError(_why(error)) from error

    def as_dict(self) -> dict[str, Any]:
        """What the file holds, in its order; what was never set is left out."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def text(self, indent: int | None = 2) -> bytes:
        """The file, as JSON in UTF-8."""
        return json.dumps(self.as_dict(), indent=indent, ensure_ascii=False).encode()


def _why(error: ValidationError) -> str:
    lacking = [str(one["loc"][-1]) for one in error.errors() if one["type"] == "missing"]
    if lacking:
        return one_line(f"lacks {', '.join(lacking)}")
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return one_line(f"{where}: {first['msg'].lower()}" if where else first["msg"].lower())
