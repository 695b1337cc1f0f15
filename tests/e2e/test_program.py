"""The program and signals: Ctrl-C, to one process, to the group, three times, SIGKILL."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import shape, write_shapes
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from stopping import checkpoints, environment, locked, ran, started

# One image at a time, so that a run can be stopped in the middle.
SLOW = ("--batch-size", "1", "--workers", "1", "--shard-size", "10", "--precision", "float32")
GOES_ON = "visionflows: stopped; run the same command again to resume"


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Some hundred files, as links to a few images."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(6):
        shape("circle", number).save(folder / f"{number:04d}.png")
    for number in range(6, 900):
        os.link(folder / f"{number % 6:04d}.png", folder / f"{number:04d}.png")
    return folder


def ctrl_c(command) -> None:
    command.type(b"\x03")


def to_one(number: int):
    return lambda command: command.signal(number)


def to_group(number: int):
    return lambda command: command.signal_group(number)


def thrice(how):
    def act(command) -> None:
        for _ in range(3):
            how(command)
            time.sleep(0.05)

    return act


def parts(output: Path) -> int:
    return len(list(output.glob("parts/part-*.json")))


@pytest.mark.parametrize(
    "act,status",
    [
        (ctrl_c, 130),
        (thrice(ctrl_c), 130),
        (to_one(signal.SIGHUP), 129),
        (thrice(to_group(signal.SIGTERM)), 143),
    ],
    ids=["ctrl-c", "ctrl-c-thrice", "hup", "term-to-the-group-thrice"],
)
def test_a_stopped_scoring_run_reports_it_and_leaves_only_its_parts(
    act, status, trained, many, tmp_path
):
    words = ("score", many, "--model", "shapes", "--store", trained.store, *SLOW)
    output, env = tmp_path / "out", environment()
    with started(*words, "--output", output, env=env, cwd=tmp_path) as command:
        command.when(lambda: parts(output) >= 3)
        act(command)
        assert command.ended() == status
        assert command.lines == [GOES_ON]
        assert "Traceback" not in command.text
        assert command.left() == []
    assert not locked(output / ".lock")
    assert checkpoints(output) == []
    assert not (output / "run.json").exists()
    before = parts(output)
    again = ran(*words, "--output", output, env=env, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"{before} of them already done" in again.stderr


def test_a_signal_during_the_start_is_one_line_too(trained, many, tmp_path):
    words = ("score", many, "--model", "shapes", "--store", trained.store, "--output", "out", *SLOW)
    for wait in (0.4, 1.5):
        with started(*words, env=environment(), cwd=tmp_path) as command:
            time.sleep(wait)
            command.signal(signal.SIGTERM)
            assert command.ended() in (143,)
            assert "Traceback" not in command.text


def test_the_line_names_the_default_output_to_resume_with(trained, many, tmp_path):
    words = ("score", many, "--model", "shapes", "--store", tmp_path / "store", *SLOW)
    (tmp_path / "store").mkdir()
    os.symlink(trained.store / "models", tmp_path / "store/models")
    with started(*words, env=environment(), cwd=tmp_path) as command:
        command.when(lambda: list(tmp_path.glob("store/scores/*/parts/part-*.json")))
        ctrl_c(command)
        assert command.ended() == 130
        (output,) = tmp_path.glob("store/scores/*")
        assert command.lines[-1] == (f"visionflows: stopped; to resume, add --output {output}")


@pytest.mark.usefixtures("prefect_server")
def test_a_stopped_flow_run_is_marked_on_its_server(trained, many, tmp_path):
    words = ("score", many, "--model", "shapes", "--store", trained.store, *SLOW)
    env, output = environment(PREFECT_API_URL=PREFECT_API_URL.value()), tmp_path / "out"
    with started(*words, "--output", output, env=env, cwd=tmp_path) as command:
        command.when(lambda: parts(output) >= 3)
        command.signal_group(signal.SIGTERM)
        assert command.ended() == 143, command.text
        assert command.lines == [GOES_ON]
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(limit=200)
    (mine,) = [run for run in runs if run.parameters.get("output") == str(output)]
    assert mine.state_name == "Crashed"


TRAIN = ("--arch", "resnet18", "--pretrained", "none", "--image-size", "32", "--epochs", "400")


@pytest.mark.parametrize("act,status", [(ctrl_c, 130), (to_group(signal.SIGTERM), 143)])
def test_a_stopped_training_ends_with_its_dataloaders(act, status, tmp_path):
    write_shapes(tmp_path / "shapes", each=12)
    words = ("train", "shapes", "--name", "shapes", "--lr", "3e-3", "--workers", "2", *TRAIN)
    with started(*words, env=environment(), cwd=tmp_path) as command:
        command.when(lambda: len(command.family) >= 2 and "epoch" in command.text)
        act(command)
        assert command.ended() == status
        assert command.lines[-1] == GOES_ON
        assert command.left() == []


def test_a_killed_run_leaves_no_process_and_no_lock(tmp_path, trained, many):
    write_shapes(tmp_path / "shapes", each=12)
    words = ("train", "shapes", "--name", "shapes", "--lr", "3e-3", "--workers", "2", *TRAIN)
    with started(*words, env=environment(), cwd=tmp_path) as command:
        command.when(lambda: len(command.family) >= 2 and "epoch" in command.text)
        command.signal(signal.SIGKILL)
        assert command.ended() == 128 + signal.SIGKILL
        assert command.left() == []


def test_a_stopped_demo_leaves_no_process_and_no_server(tmp_path):
    (tmp_path / "tmp").mkdir()
    env = environment(TMPDIR=str(tmp_path / "tmp"), HOME="/nowhere")
    with started("demo", env=env, cwd=tmp_path) as command:
        command.when(lambda: list(tmp_path.glob("demo/store/datasets/*")))
        ctrl_c(command)
        assert command.ended() == 130
        assert command.lines == ["visionflows: stopped"]
        assert command.left() == []
    assert not list((tmp_path / "tmp").glob("*prefect*"))  # it starts no server


def test_a_closed_output_pipe_is_not_an_error(trained, tmp_path):
    words = [sys.executable, "-m", "visionflows.cli", "models", "list", "--store", trained.store]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        list(map(str, words)), env=environment(), stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_native_library_that_hangs_at_exit_does_not_hold_the_program(tmp_path):
    """Its destructors run after Python has ended; C's `pause` stands for one that waits."""
    code = (
        "import ctypes; from visionflows.cli import program; libc = ctypes.CDLL(None);"
        "program.run(lambda: print('done', libc.__cxa_atexit(libc.pause, None, None)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done 0\n", "")
