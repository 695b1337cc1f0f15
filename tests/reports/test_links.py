"""Links between pages: relative within one disk or bucket, else the location as text."""

import pytest

from visionflows.reports.links import link_to_model, relative_address


@pytest.mark.parametrize(
    "location, folder, address",
    [
        ("/data/store/models/pets/1", "/data/scores/pets/", "../../store/models/pets/1"),
        ("store/a #1?", "scores/pets", "../../store/a%20%231%3F"),
        ("file:///data/a.csv", "/data", "a.csv"),
        ("s3://bucket/models/a b", "s3://bucket/scores/pets", "../../models/a%20b"),
        ("s3://bucket/models", "s3://other/models", ""),
        ("/data/models", "s3://bucket/scores", ""),
        ("/data/caf\udce9.png", "/data", "caf%E9.png"),
    ],
)
def test_a_link_within_one_storage_is_relative(location, folder, address):
    assert relative_address(location, folder) == address


def test_a_model_in_another_storage_is_named_by_its_location():
    link = link_to_model("s3://bucket/models/pets/1", "/data/scores")
    assert (link.address, link.location) == ("", "s3://bucket/models/pets/1/report.html")
