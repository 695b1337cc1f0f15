"""Tables on a terminal and in a log: untruncated and without control characters."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from visionflows.cli.terminal import Rows, facts, print_json, print_parts

LONG = "a-name-of-a-dataset-that-is-as-long-as-some-are-" * 4
ROWS = [["pets@20261123T081500123Z-1a2b3c4d", "latest, production", "0.0123", LONG]]
TABLE = Rows(("version", "aliases", "error rate", "dataset"), ROWS, numbers=("error rate",))


def test_a_row_in_a_log_is_one_untruncated_line(capsys):
    print_parts(TABLE, facts("Data", [("source", LONG * 3), ("nothing", "")]))
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if "pets@" in line]
    assert row.split("  ", 1)[0] == ROWS[0][0]
    assert all(cell in row for cell in ROWS[0])
    assert LONG * 3 in lines[-1]
    assert "nothing" not in "\n".join(lines)
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_row_on_a_narrow_terminal_is_an_untruncated_list(width):
    output = io.StringIO()
    Console(file=output, width=width, force_terminal=True, no_color=True).print(TABLE)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    assert ROWS[0][0] in lines[1]
    assert all(cell in "".join(line.strip() for line in lines) for cell in ROWS[0])
    assert "…" not in output.getvalue()


def test_control_characters_in_names_have_no_effect(capsys):
    name = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] :smile:\nnext"
    print_parts(Rows(("class",), [[name]]), facts(name, [("source", name)]))
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "\x07" not in output
    assert output.count("[bold]x[/bold] :smile:") == 3


def test_nan_and_infinity_become_null_in_json(capsys):
    print_json([{"error_rate": float("nan"), "rows": (1, float("inf")), "name": "\u732b"}])
    output = capsys.readouterr().out
    strict = json.loads(output, parse_constant=lambda text: pytest.fail(text))
    assert strict == [{"error_rate": None, "rows": [1, None], "name": "\u732b"}]
    assert "\u732b" in output


def output_of(code: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess:
    command = f'exec "$0" -c "$1" {shell}'
    env = os.environ | environment
    return subprocess.run(["sh", "-c", command, sys.executable, code], capture_output=True, env=env)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict"])
def test_characters_missing_in_the_encoding_become_escapes(encoding):
    code = "from visionflows.cli import terminal as t; t.print_parts('a – b'); t.print_json('–')"
    done = output_of(code, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout) == (0, b'a \\u2013 b\n"\\u2013"\n')


def test_a_summary_that_cannot_be_printed_fails_no_command_and_a_table_does():
    code = "from visionflows.cli import terminal as t; t.print_summary('done')"
    done = output_of(code, ">/dev/full")
    assert done.returncode == 0
    assert b"stdout: cannot be written (No space left on device); the result is" in done.stderr
    done = output_of(code.replace("summary", "text"), ">/dev/full")
    assert done.returncode == 1
    assert b"StorageError: stdout: cannot be written" in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_cost_no_command(closed, tmp_path):
    """And no file that is opened later gets their numbers."""
    code = "import os, sys; from visionflows.cli import program; "
    code += "program.run(lambda: (sys.stderr.write('x'), print('y'), "
    code += f"open({str(tmp_path / 'seen')!r}, 'w').write(str(os.open(os.devnull, 0) > 2))))"
    assert output_of(code, closed).returncode == 0
    assert (tmp_path / "seen").read_text() == "True"
