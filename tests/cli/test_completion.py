"""Shell completion: with real bash and its word breaks, and with the requests of other shells."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from visionflows.storage import open_storage

PROGRAM = Path(sys.executable).with_name("visionflows")
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="visionflows is not installed here")


@pytest.fixture
def store(tmp_path) -> Path:
    """A store with models that cannot be loaded: completion only needs their names."""
    here = open_storage(tmp_path / "store")
    for name in ("pets", "petals", "cars"):
        here.write(f"models/{name}/20260101-a/model.json", b"{}")
        here.write(f"models/{name}/aliases/latest", b"20260101-a\n")
    here.write("models/pets/20260102-b/model.json", b"{}")
    here.write("models/pets/aliases/production", b"20260101-a\n")
    here.write("models/pets/promotions/20260101T0Z-0.json", b"{}")
    return tmp_path / "store"


def asked(env: dict[str, str], *command: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "VISIONFLOWS_STORE": "", **env}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=True)


def eventually(candidates: Callable[..., list[str]], *what: object, **env: str) -> list[str]:
    """The completions; repeated if a busy machine exceeds the timeout."""
    tries = (candidates(*what, **env) for _ in range(5))
    return next(filter(None, tries), [])


def completed(*words: str, **env: str) -> list[str]:
    return eventually(by_bash, *words, **env)


def by_bash(*words: str, **env: str) -> list[str]:
    """Bash's completions of the last word; `words` are split at COMP_WORDBREAKS."""
    script = """
        eval "$("$0" --show-completion bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _visionflows_completion "$0"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    shell = ("bash", "--norc", "-c", script, str(PROGRAM), "visionflows", *words)
    result = asked({"SHELL": "/bin/bash", **env}, *shell)
    assert result.stderr == ""
    return result.stdout.split()


def test_bash_completes_names_aliases_and_versions(store):
    at = ("--store", str(store))
    assert completed("models", "show", *at, "pet") == ["petals", "pets"]
    assert completed("models", "promote", *at, "pets", "@", "pro") == ["production"]
    versions = ["latest", "production", "20260102-b", "20260101-a"]
    assert completed("models", "compare", *at, "cars", "pets", "@") == versions
    assert completed("models", "history", *at, "") == ["cars", "petals", "pets"]


def test_bash_completes_options_of_score_predict_and_retrain(store):
    env = {"VISIONFLOWS_STORE": str(store)}
    assert completed("score", "inbox", "--model", "ca", **env) == ["cars"]
    assert completed("predict", "x.jpg", "--model", "=", "pets", "@", "l", **env) == ["latest"]
    assert completed("retrain", "inbox", "--name", "c", **env) == ["cars"]


@pytest.mark.parametrize("before", [["--store", "s", ":", "//x"], ["--store", "=", "gopher", ":"]])
def test_an_unreadable_store_gives_no_candidates(before, tmp_path):
    env = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x"}
    assert by_bash("models", "show", *before, "pe", **env) == []
    assert by_bash("models", "show", "--store", "nowhere", "pets", "@", "x") == []
    (tmp_path / "models").write_bytes(b"a file")
    assert by_bash("models", "show", "--store", str(tmp_path), "") == []
    (tmp_path / "models").unlink()
    (tmp_path / "models/pets/aliases/latest").mkdir(parents=True)
    assert by_bash("models", "show", "--store", str(tmp_path), "pets", "@") == []


def test_bash_without_at_in_its_word_breaks_gets_full_names(store):
    words = ("models", "show", "--store", "=", str(store))
    assert completed(*words, "pets@pro") == ["pets@production"]


def test_completion_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{silent.getsockname()[1]}",
            **{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1"},
        }
        before = time.monotonic()
        assert by_bash("models", "show", "--store", "s3", ":", "//bucket/store", "pe", **env) == []
        assert time.monotonic() - before < 20  # the client's default timeout is minutes


def by_words(env: dict[str, str]) -> list[str]:
    return asked(env, str(PROGRAM)).stdout.split()


def test_zsh_and_fish_get_full_names(store):
    words = f"visionflows models show --store {store} pets@pro"
    zsh = {"_VISIONFLOWS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": words}
    assert '"pets@production"' in "".join(eventually(by_words, zsh))
    fish = {
        **zsh,
        "_VISIONFLOWS_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    assert eventually(by_words, fish) == ["pets@production"]
