import pytest

from visionflows.label_sets import indicators, join_labels, split_labels


def test_labels_are_sorted_once_each_and_read_back():
    assert join_labels(["sofa", "cat", "sofa"]) == "cat;sofa"
    assert split_labels("cat;sofa") == ("cat", "sofa")
    assert split_labels(join_labels([])) == ()


def test_indicators_have_a_row_for_each_image():
    found = indicators(["cat;sofa", "", "dog"], ["cat", "dog", "sofa"])
    assert found.tolist() == [[True, False, True], [False] * 3, [False, True, False]]
    with pytest.raises(KeyError, match="bird"):
        indicators(["bird"], ["cat"])
