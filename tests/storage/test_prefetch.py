"""Work that threads do ahead of its consumer."""

from visionflows.storage.prefetch import prefetch


def test_items_are_taken_a_few_ahead():
    """A dataset of a million files is not queued whole."""
    taken: list[int] = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = prefetch(str, items(), 2, 8)
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    assert len(taken) == 11
