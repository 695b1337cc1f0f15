"""What applying a file resets, as it is told."""

from visionflows.serve.deploy import _prints, _replaced, resets

FILE = {"score/score": {"parameters": {"model": "pets"}, "schedules": ["2"], "paused": False}}
CHANGED = {"score/score": {"parameters": {"model": "cats"}, "schedules": ["4"], "paused": False}}
NEW = {"score/score": {"parameters": {"model": "cats"}, "schedules": ["3"], "paused": False}}


def test_only_what_people_had_changed_is_told():
    fields = _prints(FILE)
    assert list(resets(CHANGED, FILE, fields)) == ["score/score: parameters, schedules"]
    assert list(resets(CHANGED, NEW, fields)) == ["score/score: schedules"]  # cats is in the file
    assert list(resets(FILE, NEW, fields)) == []  # the file's own change is no reset
    assert list(resets(CHANGED, CHANGED, fields)) == []


def test_where_nothing_is_remembered_all_that_becomes_different_is_told():
    assert list(resets(CHANGED, FILE, None)) == ["score/score: parameters, schedules"]
    assert list(resets({}, FILE, None)) == []


def test_what_had_been_deleted_and_is_made_again_is_told():
    told = list(resets({}, FILE, _prints(FILE)))
    assert told == ["score/score: there again; it had been deleted"]


def test_places_are_replaced_as_whole_texts_however_deep():
    value = {"env": {"A": "/old"}, "list": ["/old", "/old/more", 5]}
    assert _replaced(value, ["/old"], ["/new"]) == {
        "env": {"A": "/new"},
        "list": ["/new", "/old/more", 5],
    }
