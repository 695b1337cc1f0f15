"""Promotion history: who moved an alias to a version, when and why; a file for each promotion.

    <store>/models/<name>/promotions/<time>-<random>.json

A record is written before its alias, and no other promotion of the alias can come between. So no
record is missing, and they are in the order of the changes. A killed promotion can leave a record
without effect: `find_unapplied` reports it.
"""

import contextlib
import datetime
import getpass
import logging
import os
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

from pydantic import ConfigDict

from visionflows.models.schema import Name, is_name, parse_alias
from visionflows.storage import open_storage
from visionflows.storage.base import Entry, Storage
from visionflows.versioned_json import SchemaError, VersionedJson

log = logging.getLogger("visionflows.models")

_FOLDER = "promotions"


class Promotion(VersionedJson):
    """A promotion of `alias` from the version `before` (empty if none) to `version`.

    `when` is ISO 8601 in UTC. `by` is user@host for a person; else `flow_run` is the id of the run.
    """

    model_config = ConfigDict(extra="allow")
    VERSION = 1

    name: Name
    alias: Name
    version: Name
    before: str = ""
    when: str = ""
    by: str = ""
    flow_run: str = ""
    why: str = ""

    @property
    def who(self) -> str:
        """user@host, or the flow run with its id."""
        return f"flow run {self.flow_run}" if self.flow_run else self.by


def record_promotion(models: Storage, **fields: str) -> None:
    """Move an alias of `models`, the model's folder, and record it with the fields of `Promotion`.

    Of two at once, each sees what the other has done. Raises StorageError if either file cannot be
    written; the alias is then unchanged, and no record is left.
    """
    promotion, record = Promotion(schema_version=Promotion.VERSION, **fields), ""

    def change(content: bytes | None) -> bytes:
        nonlocal record
        if record:  # another promotion came first: this one gets a later record
            models.remove(record)
        now = datetime.datetime.now(datetime.UTC)
        record = f"{_FOLDER}/{now:%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}.json"
        fields = {"before": parse_alias(content), "when": now.isoformat(timespec="milliseconds")}
        models.write(record, promotion.model_copy(update=fields).text())
        return f"{promotion.version}\n".encode()

    try:
        models.update(f"aliases/{promotion.alias}", change)
    except BaseException:
        with contextlib.suppress(OSError):
            if record:
                models.remove(record)
        raise


def read_promotions(name: str, store: str | Path) -> list[Promotion]:
    """The promotions of a model, newest first; an unreadable record is only logged."""
    if not is_name(name):
        return []
    folder = open_storage(store).sub(f"models/{name}/{_FOLDER}")
    names = [each for each in folder.names() if each.endswith(".json")]
    found = []
    contents = folder.read_many(Entry(each, 0, "") for each in names)
    for each, data in zip(names, contents, strict=True):
        try:
            if isinstance(data, OSError):
                raise data
            found.append(Promotion.read(data))
        except (SchemaError, OSError) as error:
            log.warning("%s/%s: not a promotion record: %s", folder, each, error)
    return found[::-1]


def find_unapplied(history: Iterable[Promotion], aliases: dict[str, str]) -> list[str]:
    """A line for each alias that does not match its newest promotion.

    `aliases` has the version of each. The promotion was killed, or the alias was edited by hand.
    """
    newest: dict[str, Promotion] = {}
    for promotion in history:
        newest.setdefault(promotion.alias, promotion)
    return [
        f"{promotion.name}@{alias} is {aliases.get(alias) or 'nothing'}, but the newest promotion "
        f"is to {promotion.version}: it did not finish, or the alias was edited by hand"
        for alias, promotion in newest.items()
        if aliases.get(alias, "") != promotion.version and alias != "latest"
    ]


def current_user() -> str:
    """The user of this process: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container, often a user without a name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
