"""What the doctor reports of a Prefect server."""

from visionflows.serve import doctor


def test_doctor_counts_workers_of_a_server(prefect_server):
    finding = doctor.check_server()
    assert finding.status == "note"
    assert "no worker is online" in finding.message
