"""The rule that marks silent runs as crashed covers runs with our tag only."""

import uuid

from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from visionflows.serve.provision import zombie_rule


def test_the_rule_is_about_our_tag():
    rule = EventTrigger.model_validate(zombie_rule().trigger.model_dump(mode="json"))
    for tag, covered in (("visionflows", True), ("visionflows-not", False), ("gpu", False)):
        event = {
            "occurred": "2026-01-01T00:00:00Z",
            "received": "2026-01-01T00:00:00Z",
            "id": uuid.uuid4(),
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": "prefect.flow-run.1"},
            "related": [
                {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
            ],
        }
        assert rule.covers(ReceivedEvent.model_validate(event)) == covered, tag
