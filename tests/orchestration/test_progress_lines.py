"""Progress where there is no terminal: a log line from time to time, with the time left."""

from visionflows.orchestration import progress


def test_a_line_every_minute_says_how_much_time_is_left(monkeypatch, caplog):
    caplog.set_level("INFO", "visionflows")
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.Progress("fine-tuning", total=1) as bar:
        for second in range(0, 601, 30):
            now = 1000.0 + second
            bar.update(second / 1200, "epoch 2 of 4")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 10
    assert lines[0] == "fine-tuning, epoch 2 of 4: 5 %, about 19 min left"
    assert lines[-1] == "fine-tuning, epoch 2 of 4: 50 %, about 10 min left"
