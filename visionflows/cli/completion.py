"""What a shell completes: names of models, their aliases and versions, from the store.

    visionflows --install-completion
    visionflows models promote pets@<TAB>

A shell that completes is told nothing else: where the store cannot be read there are no candidates,
and after PATIENCE seconds neither. Bash takes `pets@pr` for three words, and `complete` for one.
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

PATIENCE = 3.0  # seconds that a person waits for a candidate
ASKED = "_VISIONFLOWS_COMPLETE"  # the variable by which a shell asks, as typer's scripts set it
_CUT = re.compile("[@:=]+")  # where bash ends a word


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `--model` may be: the names of models; after an @ the aliases and versions of one."""
    from visionflows.errors import VisionflowsError
    from visionflows.models.references import is_name
    from visionflows.models.registry import aliases_of, default_store
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
        return [f"{name}@{one}" for one in [*aliases_of(name, store), *reversed(versions)]]
    except (VisionflowsError, OSError):
        return []


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `--name` may be, besides a new one: the names of models."""
    return complete_model(ctx, incomplete.partition("@")[0])


def asked() -> bool:
    """Whether a shell asks for candidates, and no person for a command."""
    return ASKED in os.environ


def complete(app: Callable[[], object]) -> None:
    """Answer a shell, whatever happens without a word on the terminal that it completes on."""
    timer = threading.Timer(PATIENCE, os._exit, (0,))
    timer.daemon = True
    timer.start()
    logging.disable()
    sys.stderr = io.StringIO()
    typed, told = _whole_words(), io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(told):
        app()
    for line in filter(None, told.getvalue().splitlines()):
        print(line.removeprefix(typed))


def _whole_words() -> str:
    """Join the words that bash has cut; what it does not replace of the last, such as `pets@`."""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    if os.environ[ASKED] != "complete_bash" or not any(map(_CUT.fullmatch, words)):
        return ""
    whole: list[str] = []
    for before, word in zip(["", *words], words[: int(os.environ["COMP_CWORD"]) + 1], strict=False):
        if whole and (_CUT.fullmatch(before) or _CUT.fullmatch(word)):
            whole[-1] += word
        else:
            whole.append(word)
    os.environ |= {"COMP_WORDS": "\n".join(whole), "COMP_CWORD": str(len(whole) - 1)}
    if not any("@" in word for word in words if _CUT.fullmatch(word)):
        return ""  # this bash was told not to cut there
    value = whole[-1].partition("=")[2] if whole[-1].startswith("-") else whole[-1]
    return value[: value.rfind("@") + 1]
