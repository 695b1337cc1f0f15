"""Corrections of several labels: read, audited, trained on, exchanged with Label Studio."""

import json

import pytest
from several_labels import SOURCE, write_pairs

from visionflows.datasets.file_table import build_table
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.errors import TableError
from visionflows.hashing import sha256_of
from visionflows.review.audit import estimate_accuracy
from visionflows.review.corrections import Correction, format_corrections, parse_corrections
from visionflows.review.label_studio import NONE, labeling_config, parse_export, to_tasks
from visionflows.training.apply_corrections import apply_corrections
from visionflows.training.settings import TrainSettings

SETTINGS = TrainSettings(seed=1)


def answered(number: int, label: str, was: str) -> Correction:
    answer = "empty" if not label else "right" if label == was else "other"
    digest = sha256_of(str(number).encode())
    cells = (f"{number}.jpg", digest, label, answer, was, "0.9", "audit", 100, "pets@1", "2026")
    return Correction(*cells, decisions=5)


ROWS = [answered(0, "cat;sofa", "cat;sofa"), answered(1, "", ""), answered(2, "cat", "dog;sofa")]


def test_no_label_is_an_answer_of_its_own():
    found = parse_corrections("corrections.csv", format_corrections(ROWS))
    assert [(row.label, row.answer, row.decisions) for row in found] == [
        ("cat;sofa", "right", 5),
        ("", "empty", 5),
        ("cat", "other", 5),
    ]
    assert [row.right for row in found] == [True, True, False]
    assert all(row.answered and not row.is_none for row in found)
    wrong = format_corrections([ROWS[1]._replace(label="cat")])
    with pytest.raises(TableError, match="the answer empty and the label 'cat'"):
        parse_corrections("corrections.csv", wrong)


def test_an_audit_counts_exact_matches_and_decisions():
    (found,) = estimate_accuracy(ROWS)
    assert (found.right, found.reviewed) == (2, 3)
    assert (found.decisions, found.wrong_decisions) == (15, 3)
    assert found.description.endswith("; 12 of 15 decisions on a label right: 80.0 %")
    assert found.as_dict()["wrong_decisions"] == 3


def test_label_studio_takes_and_gives_several_choices():
    assert 'choice="multiple"' in labeling_config(["cat", "dog"], multi_label=True)
    tasks = json.loads(json.dumps(to_tasks(ROWS, "/in/")))
    choices = [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks]
    assert choices == [["cat", "sofa"], [NONE], ["dog", "sofa"]]
    for task, chosen in zip(tasks, (["sofa", "cat"], [NONE], ["cat"]), strict=True):
        result = {"type": "choices", "value": {"choices": chosen}}
        task["annotations"] = [{"result": [result], "updated_at": "2026"}]
    assert parse_export("export.json", json.dumps(tasks).encode()) == ROWS
    both = {"type": "choices", "value": {"choices": [NONE, "cat"]}}
    tasks[0]["annotations"][0]["result"] = [both]
    with pytest.raises(TableError, match="task 1 has labels and 'None of these'"):
        parse_export("export.json", json.dumps(tasks).encode())


def corrected(folder, path: str, label: str) -> Correction:
    digest = sha256_of((folder / path).read_bytes())
    return Correction(path, digest, label, "other" if label else "empty", root=str(folder))


def apply(files, folder, rows, tmp_path):
    (tmp_path / "corrections.csv").write_bytes(format_corrections(rows))
    names = [str(tmp_path / "corrections.csv")]
    return apply_corrections(files, folder, names, tmp_path / "store", SETTINGS).files


def test_corrections_replace_all_labels_of_an_image(tmp_path):
    folder = write_pairs(tmp_path / "data", each=4, as_list=True)
    inbox = write_pairs(tmp_path / "in", each=1, first_seed=77, as_list=True)
    files = build_table(folder, parse_label_rule(SOURCE["labels"]), seed=1)
    rows = [
        corrected(folder, "images/circle-square-0.png", "stripes;circle"),
        corrected(folder, "images/circle-circle-0.png", ""),
        corrected(inbox, "images/circle-square-77.png", ""),
        corrected(inbox, "images/stripes-square-77.png", "square;stripes"),
    ]
    found = apply(files, folder, rows, tmp_path)
    assert found.attrs["multi_label"] is True
    by_digest = found.set_index("sha256").loc[[row.sha256 for row in rows]]
    assert [*by_digest.label] == ["circle;stripes", "", "", "square;stripes"]
    assert {*by_digest.status} == {"ok"}
    counts = found.attrs["corrections"]
    assert (counts["taken"], counts["changed"], counts["imported"]) == (4, 2, 2)
    new = [corrected(folder, "images/circle-square-1.png", "circle;moon")]
    with pytest.raises(TableError, match="moon is not a class of the dataset, and only 1 images"):
        apply(files, folder, new, tmp_path)


def test_a_class_is_not_lost_from_training(tmp_path):
    folder = write_pairs(tmp_path / "data", each=2, as_list=True)
    files = build_table(folder, parse_label_rule(SOURCE["labels"]), seed=1)
    files["is_valid"] = files.path == "images/circle-stripes-0.png"
    trained = files[files.label.str.contains("stripes") & ~files.is_valid]
    rows = [corrected(folder, path, "circle") for path in trained.path]
    with pytest.raises(TableError, match="they leave no image of stripes to train on"):
        apply(files, folder, rows, tmp_path)


def test_answers_for_several_labels_do_not_fit_a_dataset_of_one(tmp_path):
    folder = write_pairs(tmp_path / "data", each=2, as_list=True)
    (folder / "labels.csv").write_text(
        "path,label\n"
        + "".join(f"{path.relative_to(folder)},{path.name[:2]}\n" for path in folder.rglob("*.png"))
    )
    files = build_table(folder, parse_label_rule(SOURCE["labels"]), seed=1)
    with pytest.raises(TableError, match="reviewed for any number of labels"):
        apply(files, folder, [corrected(folder, "images/circle-square-0.png", "")], tmp_path)
