"""Progress where there is no terminal: a log line from time to time, with the time left."""

from collections.abc import Callable

from visionflows.orchestration import progress


def lines_of_ten_minutes(monkeypatch, caplog, fraction: Callable[[float], float]) -> list[str]:
    caplog.set_level("INFO", "visionflows")
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.Progress("fine-tuning", total=1) as bar:
        for second in range(0, 601, 30):
            now = 1000.0 + second
            bar.update(fraction(second / 60), "epoch 2 of 4")
    return [record.getMessage() for record in caplog.records]


def test_a_line_every_minute_says_how_much_time_is_left(monkeypatch, caplog):
    lines = lines_of_ten_minutes(monkeypatch, caplog, lambda minute: minute / 20)
    assert len(lines) == 10
    assert lines[0] == "fine-tuning, epoch 2 of 4: 5 %, about 19 min left"
    assert lines[-1] == "fine-tuning, epoch 2 of 4: 50 %, about 10 min left"


def test_the_time_left_of_a_resumed_run_is_that_of_its_own_speed(monkeypatch, caplog):
    lines = lines_of_ten_minutes(monkeypatch, caplog, lambda minute: 0.8 + minute / 100)
    assert lines[0] == "fine-tuning, epoch 2 of 4: 81 %, about 19 min left"
