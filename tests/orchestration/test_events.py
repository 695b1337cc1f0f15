"""The promotion event, and the rule of prefect.yaml that it triggers."""

import uuid

import pytest
import yaml
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from visionflows.orchestration import events
from visionflows.serve.provision import _event_rule
from visionflows.serve.settings import DEPLOYMENTS


@pytest.mark.parametrize(
    "model, scored", [("pets.production", True), ("pets.latest", False), ("cars.production", False)]
)
def test_the_rule_scores_with_the_promoted_model_of_its_name(model, scored):
    (build,) = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["build"]
    rule = build["visionflows.serve.provision.provision"]["rules"][0]
    made = _event_rule(rule, uuid.uuid4())
    trigger = EventTrigger.model_validate(made.trigger.model_dump(mode="json"))
    event = {
        "occurred": "2026-01-01T00:00:00Z",
        "received": "2026-01-01T00:00:00Z",
        "id": uuid.uuid4(),
        "event": events.PROMOTED,
        "resource": {"prefect.resource.id": f"visionflows.model.{model}"},
    }
    assert trigger.covers(ReceivedEvent.model_validate(event)) == scored
    assert "payload.get('store')" in rule["parameters"]["store"]
