"""What can be done in a place, by trying.

from visionflows.storage.access_check import probe
for what, works, advice in probe("s3://results/night"): print(what, works, advice)
"""

import secrets
from collections.abc import Callable

from visionflows.errors import DeniedError, VisionflowsError
from visionflows.storage import open_storage
from visionflows.storage.base import ReadFailed


def check_access(where: str) -> list[tuple[str, bool, str]]:
    """What was tried, whether it can be done, and what to do if not.

    Lists, writes a small file, reads it and deletes it. The first thing that concerns all of them
    (no credentials, no such bucket, endpoint down) ends it.
    """
    here, name = open_storage(where), f".probe-{secrets.token_hex(8)}"
    steps: dict[str, Callable[[], object]] = {
        "list": here.exists,
        "write": lambda: here.write(name, b"visionflows was here"),
        "read": lambda: here.read(name),
        "delete": lambda: here.remove(name),
    }
    found: list[tuple[str, bool, str]] = []
    for what, step in steps.items():
        try:
            step()
        except FileNotFoundError:
            found.append((what, False, "nothing to read, as nothing could be written"))
        except (DeniedError, ReadFailed) as error:
            found.append((what, False, getattr(error, "strerror", None) or str(error)))
        except VisionflowsError as error:
            return [*found, (what, False, str(error))]
        else:
            found.append((what, True, ""))
    return found
