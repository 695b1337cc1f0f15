"""Names, endings, class names and a server's words break nothing, in whatever they are written to.

SINKS enumerates what a text from outside is written to: for people it is one printable line, for
programs it comes back as it was.
"""

import csv
import io
import json
import logging
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import encoded, shape

from visionflows.cli import main as cli
from visionflows.cli import program, terminal
from visionflows.datasets.label_rows import label_rows
from visionflows.datasets.label_rules import parse_label_rule
from visionflows.errors import StorageError, one_line
from visionflows.escaping import escape_formula, printable, unescape_formula, utf8
from visionflows.orchestration import artifacts, flow_runs, logs, notifications, url_redaction
from visionflows.reports.rendering import render
from visionflows.review.corrections import Correction, format_corrections, parse_corrections
from visionflows.review.label_studio import labeling_config, parse_export, to_tasks
from visionflows.scoring.columns import csv_line, csv_rows
from visionflows.scoring.schema import RunResult
from visionflows.storage.base import SkippedFiles
from visionflows.storage.name_encoding import decode_name, encode_name
from visionflows.versioned_json import VersionedJson

HOSTILE = [
    os.fsdecode(b"caf\xe9.ann\xe9e"),
    os.fsdecode(b"\xff\xfe\x80"),
    "a\x1b[31mred\x1b]0;title\x07.jpg",
    "two\nlines\r\n: all is well.jpg",
    "a\u2028b\u0085c.jpg",
    "photo\u202egpj.exe",
    "\u2066hidden\u2069\u200b.jpg",
    "__proto__",
    "constructor",
    '=HYPERLINK("http://evil","x")',
    "+1",
    "-2+3",
    "@SUM(A1)",
    "'=1",
    "' =1",
    "\t=1",
    "x;=1",
    "＝1",
    "''+1",
    "<script>alert(1)</script>",
    '"><img src=x>',
    "{{ 7 * 7 }} %s {0}",
    "[bold]x[/bold] :smile: `code` | **b**",
    "x" * 251 + ".jpg",
    "\\xe9.jpg",
    " leading and trailing ",
]


class Plan(VersionedJson):
    VERSION = 1
    name: str


def on_terminal(text: str, capsys) -> str:
    terminal.print_parts(terminal.Rows(("name",), [[text]]))
    return capsys.readouterr().out.splitlines()[-1]


def in_log(text: str, capsys) -> str:
    record = logging.LogRecord("visionflows", logging.INFO, "", 0, "%s: scored", (text,), None)
    logs.clean_line(record)
    return record.getMessage()


def as_error(text: str, capsys) -> str:
    program._print_error(StorageError(f"{text}: no such folder"))
    return capsys.readouterr().err.removesuffix("\n")


def in_summary(text: str, capsys) -> str:
    lines = render("evaluation.txt", counts={"ok": 1, text: 2}, metrics=METRICS, ece=0, output="o")
    assert lines.count("\n") == 10
    return lines.splitlines()[1]


METRICS = {"accuracy": 1, "interval": (0, 1), "balanced_accuracy": 1, "macro_f1": 1}
FOR_PEOPLE = {
    "terminal": on_terminal,
    "log": in_log,
    "error": as_error,
    "summary": in_summary,
    "one line": lambda text, _: one_line(text),
    "skipped folders": lambda text, _: printable(SkippedFiles(denied={text: text}).lines()[0]),
    "run name": lambda text, _: flow_runs.run_name("score {input}")({"input": text}),
    "webhook": lambda text, _: notifications.make_event("f", text, "1", "Failed", text)["payload"][
        "message"
    ],
    "artifact text": lambda text, _: artifacts._text(text),
    "artifact code": lambda text, _: artifacts._code(text),
}


@pytest.mark.parametrize("sink", FOR_PEOPLE)
def test_what_people_read_is_one_printable_line(sink, capsys):
    for text in HOSTILE:
        shown = FOR_PEOPLE[sink](text, capsys)
        shown.encode()
        assert shown == printable(shown)
        assert "\n" not in shown


def through_csv(text: str) -> str:
    ((path,),) = csv_rows(csv_line(["path"]) + csv_line([encode_name(text)]))
    return decode_name(path)


def through_corrections(text: str) -> str:
    row = Correction(encode_name(text), "0" * 64, "cat", "right", "cat")
    (read,) = parse_corrections("c.csv", format_corrections([row]))
    return decode_name(read.path)


def through_label_studio(text: str) -> str:
    row = Correction(encode_name(text), "0" * 64, "", was="cat")
    (task,) = json.loads(json.dumps(to_tasks([row], "")))
    chosen = {"type": "choices", "value": {"choices": ["cat"]}}
    export = [{**task, "annotations": [{"result": [chosen]}]}]
    (read,) = parse_export("e.json", json.dumps(export).encode())
    return decode_name(read.path)


FOR_PROGRAMS = {
    "name": lambda text: decode_name(encode_name(text)),
    "predictions.csv": through_csv,
    "corrections.csv": through_corrections,
    "Label Studio": through_label_studio,
    "a cell that people open": lambda text: unescape_formula(escape_formula(text)),
    "JSON": lambda text: decode_name(
        Plan.read(Plan(schema_version=1, name=encode_name(text)).text()).name
    ),
    "a flow's parameter": lambda text: url_redaction.reveal(url_redaction.hide(text)),
}


@pytest.mark.parametrize("sink", FOR_PROGRAMS)
def test_what_programs_read_is_the_name(sink):
    assert [FOR_PROGRAMS[sink](text) for text in HOSTILE] == HOSTILE


def test_what_was_not_encoded_before_is_utf8_nevertheless():
    for text in HOSTILE:
        assert Plan.read(Plan(schema_version=1, name=text).text()).name == utf8(text).decode()
        assert csv_line([text]) == csv_line([utf8(text).decode()])
        url_redaction.hide(text).encode()
        render("demo.txt", **demo(text)).encode()


def demo(text: str) -> dict:
    rows = [{"path": text, "status": "unreadable", "error": text}]
    run = {"counts": {"found": 1}}
    return {"accuracy": 1, "expected": {}, "rows": rows, "run": run, "scores": text, "model": text}


def test_class_names_are_printable_and_valid_in_xml(tmp_path):
    (tmp_path / "labels.csv").write_bytes(
        csv_line(["path", "label"])
        + b"".join(csv_line([f"{at}.png", text]) for at, text in enumerate(HOSTILE))
    )
    paths = [f"{at}.png" for at in range(len(HOSTILE))]
    rows, _, _ = label_rows(parse_label_rule(f"csv:{tmp_path}/labels.csv"), tmp_path, paths)
    labels = [row["label"] for row in rows]
    assert labels == [*map(printable, labels)]
    choices = ElementTree.fromstring(labeling_config(labels)).iter("Choice")
    assert [choice.get("value") for choice in choices][:-1] == labels


@pytest.fixture
def inbox(tmp_path) -> Path:
    """A picture and another file of every hostile name."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(HOSTILE):
        name = name.replace("/", "_")
        (folder / name).write_bytes(encoded(shape("circle", number), "PNG"))
        if not name.endswith(".jpg"):
            (folder / f"{number}.{name}").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("output", ["out", os.fsdecode(b"caf\xe9/\x1b[31m out")])
def test_a_folder_of_hostile_names_is_scored(trained, inbox, tmp_path, monkeypatch, capfd, output):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    words = ["score", "in", "--model", "shapes", "--store", str(trained.store), "--output", output]
    monkeypatch.setattr(sys, "argv", ["visionflows", *words, "--max-error-rate", "1"])
    assert program.status_of(cli.app) == 0
    shown = capfd.readouterr()
    for line in (shown.out + shown.err).splitlines():
        assert line == printable(line)
    run = RunResult.read((tmp_path / output / "run.json").read_bytes())
    assert run.counts.found == len(HOSTILE)
    rows = list(
        csv.reader(
            io.StringIO((tmp_path / output / "predictions.csv").read_bytes().decode(), newline="")
        )
    )
    found = {decode_name(row[0]) for row in rows[1:]}
    assert found == {name.replace("/", "_") for name in HOSTILE}
    for page in ("report.html", "review.html", "history.html"):
        text = (tmp_path / output / page).read_bytes().decode()
        assert "\x1b" not in text
        assert "<script>alert" not in text
    assert program.status_of(cli.app) == 0  # again, into what it left
