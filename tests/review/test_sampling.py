"""Review sampling: a few rows, each once, and the audit at random."""

import random

from visionflows.review.sampling import AUDIT, OUTLIERS, UNCERTAIN, sample_rows

CLASSES = ("cat", "dog")
HEADER = ["path", "status", "label", "confidence", "error", "p_cat", "p_dog"]


def row(number: int, confidence: float, *more: str) -> list[str]:
    other = f"{1 - confidence:.6f}"
    return [f"{number:06}.jpg", "ok", "cat", f"{confidence:.6f}", "", f"{confidence}", other, *more]


def kinds(sample) -> dict[str, list]:
    return {
        why: [row for row in sample.rows if row.why == why]
        for why in ("audit", "outlier", "uncertain")
    }


def test_few_of_many_rows_are_sampled_and_each_once():
    draw = random.Random(0)
    rows = [row(number, 0.5 + draw.random() / 2, str(number % 50 == 0)) for number in range(20_000)]
    sample = sample_rows([[*HEADER, "outlier"], *rows], CLASSES, "seed")
    found = kinds(sample)
    assert {why: len(some) for why, some in found.items()} == {
        "audit": AUDIT,
        "outlier": OUTLIERS,
        "uncertain": UNCERTAIN,
    }
    assert sample.audited == AUDIT
    paths = [row.path for row in sample.rows]
    assert len(paths) == len({*paths})
    assert all(int(row.path[:6]) % 50 == 0 for row in found["outlier"])
    audited = {row.path for row in found["audit"]}
    least = sorted((float(cells[3]), cells[0]) for cells in rows if cells[0] not in audited)
    outliers = {row.path for row in found["outlier"]}
    expected = [path for _, path in least if path not in outliers][:UNCERTAIN]
    assert [row.path for row in found["uncertain"]] == expected


def test_rows_marked_for_review_come_before_the_least_confident():
    rows = [row(number, 0.5 + number / 1000, str(number >= 390)) for number in range(400)]
    found = kinds(sample_rows([[*HEADER, "review"], *rows], CLASSES, "seed"))
    first = [int(row.path[:6]) for row in found["uncertain"]]
    marked = [number for number in first if number >= 390]
    assert marked
    assert first[: len(marked)] == marked == sorted(marked)


def test_the_audit_does_not_depend_on_confidence():
    rows = [row(number, 0.5 + number / 2000) for number in range(1000)]
    times = [0] * 1000
    for seed in range(200):
        for sampled in sample_rows([HEADER, *rows], CLASSES, f"seed {seed}").rows:
            times[int(sampled.path[:6])] += sampled.why == "audit"
    assert sum(times) == 200 * AUDIT
    # Each is drawn 20 times of 200 (deviation 4.2); tenths of the confidence 2,000 times (40).
    assert min(times) > 0
    assert max(times) < 45
    tenths = [sum(times[at : at + 100]) for at in range(0, 1000, 100)]
    assert all(1800 < count < 2200 for count in tenths)


def test_the_same_seed_samples_the_same_rows_in_any_order():
    rows = [row(number, 0.9) for number in range(500)]
    sample = sample_rows([HEADER, *rows], CLASSES, "a")
    assert sample == sample_rows([HEADER, *rows], CLASSES, "a")
    assert sample != sample_rows([HEADER, *rows], CLASSES, "b")
    audit = [picked.path for picked in kinds(sample)["audit"]]
    assert audit != sorted(audit)


def test_a_row_without_a_label_is_sampled_only_as_an_outlier():
    failed = ["broken.jpg", "unreadable", "", "", "no picture", "", "", "False"]
    rejected = ["receipt.jpg", "outlier", "", "", "unlike the rest", "", "", "True"]
    rows = [row(1, 0.9, "False"), failed, rejected]
    found = kinds(sample_rows([[*HEADER, "outlier"], *rows], CLASSES, "seed"))
    assert [(row.path, row.label, row.guesses) for row in found["outlier"]] == [
        ("receipt.jpg", "", [])
    ]
    assert [row.path for row in found["audit"]] == ["000001.jpg"]
    assert found["audit"][0].guesses == [("cat", 0.9), ("dog", 0.1)]
    assert sample_rows([HEADER], CLASSES, "seed").rows == []
