"""What the doctor reports of a Prefect server."""

from visionflows.serve import doctor


def test_a_server_that_protects_itself_is_asked_for_its_workers(prefect_server):
    finding = doctor.check_server()
    assert finding.status == "note"
    assert "no worker is online" in finding.message
