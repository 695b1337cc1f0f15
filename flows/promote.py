"""Let a version be what a model's `production` means, and tell the server so.

    visionflows models promote pets@20261123T081500123Z-1a2b3c4d
    python -c 'from flows.promote import promote; promote("pets@latest", "store")'

The event `visionflows.model.promoted` is what the score deployment waits for.
"""

import logging

from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from tasks import bundle

log = logging.getLogger("visionflows.promote")

EVENT = "visionflows.model.promoted"


def promote(model: str, store: str, alias: str = "production") -> str:
    """The name `pets@production`, which means `model` from now on; the bundle is checked first.

    Raises ModelError where there is no such model, or its bundle is not whole.
    """
    found = bundle.load(bundle.find(model, store))
    name, version = found.info["name"], found.info["version"]
    bundle.set_alias(store, name, alias, version)
    promoted = f"{name}@{alias}"
    log.info("%s is %s@%s now", promoted, name, version)
    if PREFECT_API_URL.value():  # else there is no server that could wait for it
        emit_event(
            EVENT,
            resource={
                "prefect.resource.id": f"visionflows.model.{name}.{alias}",
                "prefect.resource.name": f"{name}@{version}",
            },
            payload={"model": promoted, "version": version, "store": store},
        )
    return promoted
