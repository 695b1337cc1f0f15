"""Who let which alias mean which version, when, and why: a file a promotion, and none is changed.

    from visionflows.models.promotion_history import promotions
    promotions("pets", "store")[0].version            # the newest comes first

    <store>/models/<name>/promotions/<time>-<random>.json

A record is written before its alias, while no other promotion of the alias can come between. So
none is missing, and they are in the order in which the alias changed; a promoter that was killed
between the two leaves a record that took no effect, which `without_effect` tells.
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

from visionflows.models.references import is_name, version_in
from visionflows.models.schema import Name
from visionflows.storage import open_storage
from visionflows.storage.base import Storage
from visionflows.versioned_json import SchemaError, VersionedJson

log = logging.getLogger("visionflows.models")

_FOLDER = "promotions"


class Promotion(VersionedJson):
    """What a promotion did: `alias` meant `before` until then (empty: nothing), `version` since.

    `when` is ISO 8601 in UTC. `by` is user@host where a person did it; else `flow_run` is the id
    of the run that did.
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
        """The same in words: user@host, or a flow run by its id."""
        return f"flow run {self.flow_run}" if self.flow_run else self.by


def made(name: str, alias: str, version: str, flow_run: str = "", why: str = "") -> Promotion:
    """A promotion that is to be written, signed by the flow run or by who runs this."""
    by = {"flow_run": flow_run} if flow_run else {"by": _user()}
    more = {"why": why} if why else {}
    told = {"name": name, "alias": alias, "version": version, **by, **more}
    return Promotion.model_validate({"schema_version": Promotion.VERSION, **told})


def promote(models: Storage, promotion: Promotion) -> None:
    """Let an alias mean a version and keep the record of it; `models` is the model's folder.

    Of two at once each finds what the other has done. Raises PlaceError where either cannot be
    written; the alias then means what it did, and no record is left.
    """
    record = ""

    def change(means: bytes | None) -> bytes:
        nonlocal record
        if record:  # another promotion came between: this one is later than it
            models.remove(record)
        now = datetime.datetime.now(datetime.UTC)
        record = f"{_FOLDER}/{now:%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}.json"
        told = {"before": version_in(means), "when": now.isoformat(timespec="milliseconds")}
        models.write(record, promotion.model_copy(update=told).text())
        return f"{promotion.version}\n".encode()

    try:
        models.update(f"aliases/{promotion.alias}", change)
    except BaseException:
        with contextlib.suppress(OSError):
            if record:
                models.remove(record)
        raise


def promotions(name: str, store: str | Path) -> list[Promotion]:
    """The promotions of a model, newest first; a file that is none is only logged."""
    if not is_name(name):
        return []
    where = open_storage(store).sub(f"models/{name}/{_FOLDER}")
    if not where.exists():
        return []
    entries = [entry for entry in where.walk() if entry.name.endswith(".json")]
    found = []
    for entry, data in zip(entries, where.read_many(entries), strict=True):
        try:
            if isinstance(data, OSError):
                raise data
            found.append(Promotion.read(data))
        except (SchemaError, OSError) as error:
            log.warning("%s/%s: no record of a promotion: %s", where, entry.name, error)
    return found[::-1]


def without_effect(history: Iterable[Promotion], aliases: dict[str, str]) -> list[str]:
    """A line for each alias that does not mean what its newest promotion says.

    `aliases` has the version that each means. The promoter was killed, or the alias was written by
    a visionflows that kept no history, or by hand.
    """
    newest: dict[str, Promotion] = {}
    for promotion in history:
        newest.setdefault(promotion.alias, promotion)
    return [
        f"{promotion.name}@{alias} means {aliases.get(alias) or 'nothing'}, which the newest "
        f"promotion ({promotion.version}) does not say: it did not come to its end, or the alias "
        "was written without one"
        for alias, promotion in newest.items()
        if aliases.get(alias, "") != promotion.version and alias != "latest"
    ]


def _user() -> str:
    """Who runs this, and where: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container, often a user without a name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
