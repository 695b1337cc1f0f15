"""A typo in a deployments file is named with its line, its field and what is wrong."""

import pytest

from visionflows.serve.deployments_file_errors import check
from visionflows.serve.settings import DEPLOYMENTS, UpError

STEP = "build.0.visionflows.serve.provision.provision"
SCORE = "deployments.1"


def test_the_installed_file_is_valid():
    check(DEPLOYMENTS)


@pytest.mark.parametrize(
    "right, wrong, message",
    [
        ('"0 2 * * *"', '"0 25 * * *"', f"{SCORE}.schedules.0.cron: 0 25 * * *: invalid cron"),
        ("e: Europe/Berlin", "e: Europe/Bern", f"{SCORE}.schedules.0.timezone: Europe/Bern: inv"),
        ("slug: nightly", "slog: nightly", f"{SCORE}.schedules.0.slog: no such field (is slug mea"),
        (
            "t: flows.score.score",
            "t: flows.score.scor",
            f"{SCORE}.entrypoint: flows.score.scor: ",
        ),
        ("t: flows.score.score", "t: my.py:score", f"{SCORE}.entrypoint: my.py:score: no flow is"),
        ("only_new: true", "only_new: maybe", f"{SCORE}.parameters.settings.only_new: maybe: inp"),
        ("only_new: true", "only_nwe: 1", f"{SCORE}.parameters.settings.only_nwe: no such field ("),
        ("dataset: PETS", "datset: PETS", "deployments.0.parameters.datset: train has no such pa"),
        ("    limit: 1", "    limit: x", "deployments.0.concurrency_limit.limit: x: input should"),
        ("work_queue_name: s", "queue_name: s", f"{SCORE}.work_pool.queue_name: no such field ("),
        ("  - name: score", "  - nome: score", f"{SCORE}.nome: no such field (is name meant?)"),
        ("deployments:\n", "deploymnts:\n", "deployments: missing"),
        ("jobs: 1\n", "jobs: one\n", f"{STEP}.jobs: one: input should be a valid integer"),
        (
            "[train/train",
            "[train/trian",
            f"{STEP}.deployments.0: train/trian: the file has no",
        ),
        ("t: score/score", "t: score/scor", f"{STEP}.rules.0.deployment: score/scor: the file has"),
        ("expect: [v", "expects: [v", f"{STEP}.rules.0.expects: no such field (is expect meant?)"),
    ],
)
def test_a_typo_is_named_with_line_and_field(right, wrong, message, tmp_path):
    text = DEPLOYMENTS.read_text(encoding="utf-8")
    file = tmp_path / "my.yaml"
    file.write_text(text.replace(right, wrong, 1))
    line = text[: text.index(right) + right.count("\n")].count("\n") + 1
    with pytest.raises(UpError) as caught:
        check(file)
    error = str(caught.value)
    assert f": {message}" in error
    assert error.endswith("; correct it")
    assert "\n" not in error
    if "missing" not in message:
        assert error.startswith(f"{file}:{line}: ")
