"""Label Studio: exported tasks and imported annotations."""

import json
import urllib.parse
import xml.etree.ElementTree as ElementTree

import pytest

from visionflows.errors import TableError
from visionflows.review.corrections import Correction
from visionflows.review.label_studio import NONE, labeling_config, parse_export, to_tasks

ROWS = [
    Correction(
        *(f"{name}.jpg", name * 64, "", "", "cat", "0.9", "audit", 100),
        *("pets@1", "2026-11-26T02:00:00+00:00", "/in"),
    )
    for name in "abcdef"
]


def annotated(task: dict, *choices: str, **more) -> dict:
    """A task in the export format: labelstud.io/guide/task_format."""
    made = [
        {
            "id": number,
            "result": [
                {"value": {"choices": [choice]}, "id": "x", "type": "choices"}
                | {"from_name": "choice", "to_name": "image", "origin": "manual"}
            ],
            "was_cancelled": False,
            "updated_at": f"2026-11-26T10:00:0{9 - number}Z",
            **more,
        }
        for number, choice in enumerate(choices)
    ]
    return {**task, "id": 1, "annotations": made, "drafts": [], "project": 3}


def test_tasks_have_a_url_and_the_prediction():
    task = json.loads(json.dumps(to_tasks(ROWS, "s3://inbox/")))[0]
    assert task["data"]["image"] == "s3://inbox/a.jpg"
    assert task["data"]["sha256"] == "a" * 64
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("pets@1", 0.9)
    interface = ElementTree.fromstring(labeling_config(["cat", 'a "dog" & more']))
    (result,) = prediction["result"]
    control, shown = interface.find("Choices"), interface.find("Image")
    assert (result["from_name"], result["to_name"]) == (control.get("name"), shown.get("name"))
    assert control.get("toName") == shown.get("name")
    assert shown.get("value") == "$image"
    names = [choice.get("value") for choice in control]
    assert names == ["cat", 'a "dog" & more', NONE]
    assert result["value"]["choices"][0] in names
    unlabelled = ROWS[0]._replace(was="", confidence="")
    assert to_tasks([unlabelled], "")[0]["predictions"] == []


@pytest.mark.parametrize("prefix", ["https://pictures/", "/data/local-files/?d=inbox/", "/in/"])
def test_a_url_is_quoted(prefix):
    row = ROWS[0]._replace(path="a & b/100 %#1+2?.jpg")
    (address,) = (task["data"]["image"] for task in to_tasks([row], prefix))
    asked = urllib.parse.urlsplit(address)
    assert not asked.fragment
    there = urllib.parse.parse_qs(asked.query)["d"][0] if asked.query else asked.path
    assert urllib.parse.unquote(there).endswith("a & b/100 %#1+2?.jpg")
    assert to_tasks([row], "s3://inbox/")[0]["data"]["image"] == f"s3://inbox/{row.path}"


def test_annotations_become_corrections():
    made = to_tasks(ROWS, "/in/")
    exported = [
        annotated(made[0], "cat"),
        annotated(made[1], "dog", "cat"),  # the first was updated last
        annotated(made[2], NONE),
        annotated(made[3], "dog", was_cancelled=True),
        annotated(made[4]),
    ]
    found = parse_export("export.json", json.dumps(exported).encode())
    assert [(row.path, row.label, row.answer) for row in found] == [
        ("a.jpg", "cat", "right"),
        ("b.jpg", "dog", "other"),
        ("c.jpg", "", "none"),
    ]
    assert found[0] == ROWS[0]._replace(label="cat", answer="right")


@pytest.mark.parametrize(
    "data, message",
    [
        (b"<xml>", "not JSON"),
        (b"{}", "not a list of tasks"),
        (b'[{"data": {"image": "x"}}]', "task 1 was not made by visionflows"),
    ],
)
def test_an_invalid_export_is_an_error(data, message):
    with pytest.raises(TableError, match=message):
        parse_export("export.json", data)
