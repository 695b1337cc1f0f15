"""JSON files of visionflows that match their schema, or are refused.

    class Plan(VersionedJson):
        VERSION = 1
        schema_version: int
        input: str

    Plan.read(data).input
    Plan(schema_version=1, input="inbox").text()

pydantic validates in strict mode: a number is no text, and a text no number.
"""

import json
from typing import Annotated, Any, ClassVar, Self

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionflows.errors import one_line
from visionflows.escaping import utf8

Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SchemaError(ValueError):
    """A file does not match its schema; the reason in a few words."""


class NewerVersionError(SchemaError):
    """A file that a newer visionflows wrote."""


class JsonObject(BaseModel):
    """An object inside such a file."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)


class VersionedJson(JsonObject):
    """A JSON file; the schema defines its content and the order in which it is written."""

    VERSION: ClassVar[int]
    schema_version: int

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The content of a file. Raises SchemaError or NewerVersionError, on one line."""
        try:
            content = pydantic_core.from_json(data)
        except ValueError as error:
            raise SchemaError(one_line(f"not JSON ({error})")) from error
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > cls.VERSION:
            raise NewerVersionError("written by a newer visionflows; update this one to read it")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise SchemaError(_describe(error)) from error

    def as_dict(self) -> dict[str, Any]:
        """The content of the file in order, without fields that were never set."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def text(self, indent: int | None = 2) -> bytes:
        """The file, as JSON in UTF-8."""
        return utf8(json.dumps(self.as_dict(), indent=indent, ensure_ascii=False), "\\\\")


def _describe(error: ValidationError) -> str:
    missing = [str(each["loc"][-1]) for each in error.errors() if each["type"] == "missing"]
    if missing:
        return one_line(f"lacks {', '.join(missing)}")
    first = error.errors()[0]
    field, message = ".".join(map(str, first["loc"])), first["msg"].lower()
    return one_line(f"{field}: {message}" if field else message)
