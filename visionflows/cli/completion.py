"""Shell completion of model names, aliases and versions, read from the store.

A store that cannot be read, or does not answer within TIMEOUT seconds, gives no candidates.
"""

import contextlib
import io
import logging
import os
import re
import sys
import threading
from collections.abc import Callable

import typer

TIMEOUT = 3.0  # seconds
VARIABLE = "_VISIONFLOWS_COMPLETE"  # set by typer's completion scripts
_WORD_BREAKS = re.compile("[@:=]+")  # where bash ends a word


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Candidates for a model: model names; after an @ the aliases and versions of a model."""
    from visionflows.errors import VisionflowsError
    from visionflows.models.registry import default_store, read_aliases
    from visionflows.models.schema import is_name
    from visionflows.storage import open_storage

    store = str(ctx.params.get("store") or default_store())
    name, at, _ = incomplete.partition("@")
    try:
        models = open_storage(store).sub("models")
        if not at:
            return [*filter(is_name, models.names())]
        if not is_name(name):
            return []
        versions = [one for one in models.names(name) if one not in ("aliases", "promotions")]
        return [f"{name}@{one}" for one in [*read_aliases(name, store), *reversed(versions)]]
    except (VisionflowsError, OSError):
        return []


def complete_for_shell(app: Callable[[], object]) -> None:
    """Print the candidates, and nothing else on the terminal."""
    timer = threading.Timer(TIMEOUT, os._exit, (0,))
    timer.daemon = True
    timer.start()
    logging.disable()
    sys.stderr = io.StringIO()
    typed, output = _join_bash_words(), io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(output):
        app()
    for line in filter(None, output.getvalue().splitlines()):
        print(line.removeprefix(typed))


def _join_bash_words() -> str:
    """Join the words that bash has split at @, : and =; what it keeps of the last is returned."""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    if os.environ[VARIABLE] != "complete_bash" or not any(map(_WORD_BREAKS.fullmatch, words)):
        return ""
    joined: list[str] = []
    for before, word in zip(["", *words], words[: int(os.environ["COMP_CWORD"]) + 1], strict=False):
        if joined and (_WORD_BREAKS.fullmatch(before) or _WORD_BREAKS.fullmatch(word)):
            joined[-1] += word
        else:
            joined.append(word)
    os.environ |= {"COMP_WORDS": "\n".join(joined), "COMP_CWORD": str(len(joined) - 1)}
    if not any("@" in word for word in words if _WORD_BREAKS.fullmatch(word)):
        return ""  # COMP_WORDBREAKS has no @
    value = joined[-1].partition("=")[2] if joined[-1].startswith("-") else joined[-1]
    return value[: value.rfind("@") + 1]
