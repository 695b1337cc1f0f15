"""Secrets of URLs are redacted in run names, database, logs and webhook."""

import pytest

from visionflows.orchestration.url_redaction import hide, redact, reveal
from visionflows.training.settings import TrainSettings

TINY = TrainSettings(
    architecture="resnet18", pretrained="none", image_size=32, epochs=1, lr=3e-3, batch_size=16
)


@pytest.mark.parametrize(
    "text,redacted",
    [
        ("https://me:secret@host/a.tgz", "https://host/a.tgz"),
        ("https://me:secret@host:8080/a.tgz?sig=1&b=2", "https://host:8080/a.tgz?…"),
        ("https://host/a.tgz#token", "https://host/a.tgz"),
        ("(https://host/a?sig=1): not found", "(https://host/a?…): not found"),
        ("ftp://me:s@h/a and http://x/?t", "ftp://h/a and http://x/?…"),
        ("postgresql+asyncpg://me:secret@db/name", "postgresql+asyncpg://db/name"),
        ("csv:https://me:secret@h/x.csv", "csv:https://h/x.csv"),
        ("s3://bucket/a?b@c#d", "s3://bucket/a?b@c#d"),
        ("file:///a?b@c", "file:///a?b@c"),
        ("me@host.example/a?b", "me@host.example/a?b"),
        ("C://x", "C://x"),
    ],
)
def test_redact(text, redacted):
    assert redact(text) == redacted


def test_reveal_returns_the_hidden_value():
    secret = "https://me:secret@host/a.tgz?sig=1"
    assert hide(secret) == "https://host/a.tgz?…"
    assert reveal(hide(secret)) == secret
    for other in ("s3://bucket/a?b", "PETS", 5, None, TINY):
        assert reveal(hide(other)) is other
