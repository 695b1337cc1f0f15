"""Buckets over TLS with a private certificate: AWS_CA_BUNDLE, and the error without it."""

import datetime
import ipaddress

import pytest
from conftest import write_shapes
from s3_server import rclone

from visionflows.errors import StorageError
from visionflows.scoring.local_run import score_folder
from visionflows.storage import open_storage
from visionflows.storage.s3.bulk_read import reader


def signed(name: str, key, issuer=None, signer=None):
    """A certificate for a name and this machine, self-signed or signed by an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .sign(signer or key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    """A TLS server, and the certificate to trust: of its authority, or its own."""
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    root = tmp_path_factory.mktemp("tls")
    ours, its = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = signed("visionflows' own authority", ours)
    served = signed("s3", its, authority, ours)
    pem = form.Encoding.PEM
    (root / "authority.pem").write_bytes(authority.public_bytes(pem))
    (root / "cert.pem").write_bytes(served.public_bytes(pem))
    key = its.private_bytes(pem, form.PrivateFormat.PKCS8, form.NoEncryption())
    (root / "key.pem").write_bytes(key)
    (root / "buckets/lab").mkdir(parents=True)
    tls = root / "cert.pem", root / "key.pem"
    with rclone(root / "buckets", root / "log", tls=tls) as server:
        yield server, root / "authority.pem"


@pytest.fixture
def here(tls_server, monkeypatch, tmp_path):
    server, authority = tls_server
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    monkeypatch.setenv("VISIONFLOWS_CACHE", str(tmp_path / "cache"))
    return open_storage(f"s3://lab/{tmp_path.name}")


def test_a_bucket_is_listed_read_and_written_over_tls(here):
    contents = {"a b/é.jpg": b"one", "large": bytes(40_000_000), "z": b""}
    for name, data in contents.items():
        with here.open_write(name) as file:
            file.write(data)
    entries = list(here.walk())
    assert {entry.name for entry in entries} == contents.keys()
    assert list(here.read_many(entries)) == [contents[entry.name] for entry in entries]
    assert reader("lab").read_with_obstore(here.prefix + "a b/é.jpg", entries[0].version) == b"one"
    with here.open_read("large") as file:
        assert file.read() == contents["large"]
    here.update("z", lambda data: data + b"more")
    with here.lock(".lock"):
        here.rename("z", "y")
    assert here.read("y") == b"more"
    here.remove("")
    assert not here.exists()


def test_a_run_over_tls(here, trained, tmp_path):
    inbox = here.sub("inbox")
    for path in write_shapes(tmp_path / "in", each=1).rglob("*.png"):
        inbox.write(path.name, path.read_bytes())
        inbox.write(path.parent.name + path.name, path.read_bytes())
    run = score_folder(str(inbox), "shapes", str(here.sub("out")), trained.store)
    assert run["counts"]["by_status"] == {"ok": 4}
    assert here.exists("out/predictions.csv")


@pytest.mark.parametrize("bundle", ["", "/nowhere/at-all.pem"])
def test_an_untrusted_certificate_is_reported_with_what_to_set(here, monkeypatch, bundle):
    monkeypatch.setenv("VISIONFLOWS_S3_ATTEMPTS", "1")
    monkeypatch.delenv("AWS_CA_BUNDLE")
    if bundle:
        monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    with pytest.raises(StorageError) as caught:
        list(here.walk())
    line = str(caught.value)
    assert "\n" not in line
    assert (bundle or "unable to get local issuer certificate") in line
    assert "AWS_CA_BUNDLE" in line
