"""The output of the demo: accuracy by digit, failed files, and all its pages."""

from visionflows.cli.results import print_demo

CSV = """path,status,label,confidence,error
0.png,ok,0,0.9,
1.png,ok,7,0.6,
broken.png,unreadable,,,cut off
"""


def test_the_demo_prints_its_accuracy_failures_and_pages(tmp_path, capsys):
    scores = tmp_path / "scores"
    scores.mkdir()
    (scores / "predictions.csv").write_text(CSV)
    run = {"counts": {"found": 3}}
    result = {
        "expected": {"0.png": "0", "1.png": "1"},
        "run": run,
        "model": "store/models/digits/1",
    }
    print_demo(tmp_path, result)
    lines = capsys.readouterr().out.splitlines()
    assert "accuracy 0.5000 on 2 held-out digits" in lines
    assert "3 files, 3 rows, 1 failed:" in lines
    assert "  broken.png: unreadable: cut off" in lines
    paths = [line.split()[-1] for line in lines[lines.index("Open these:") + 1 :]]
    pages = [f"{scores}/{name}" for name in ("report.html", "review.html", "history.html")]
    assert paths == ["store/models/digits/1/report.html", *pages, f"{scores}/predictions.csv"]
