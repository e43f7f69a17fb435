"""The exported date is that of the presented certificate, not of the file, also for PostgreSQL, and also after it expired."""

import datetime
import pathlib
import re
import socket
import ssl
import sys
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conftest import TOP, run

PROGRAM = TOP / "ansible/roles/exporters/files/certificate-ages"


def certificate(folder, name, end):
    """A key and a self-signed certificate that expires then."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(end).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (folder / f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, plain[1], plain[0]))
    return int(end.replace(tzinfo=datetime.UTC).timestamp())


@pytest.fixture
def serve(tmp_path):
    """Starts a TLS server with a certificate of this folder on a free port, after PostgreSQL's request for TLS of `asked` bytes."""
    listeners = []

    def serve(name, asked=0):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer():
            plain, _ = listener.accept()
            if asked:
                assert plain.recv(asked) == b"\0\0\0\x08\x04\xd2\x16\x2f"
                plain.sendall(b"S")
            with context.wrap_socket(plain, server_side=True) as client:
                client.recv(1)

        threading.Thread(target=answer, daemon=True).start()
        return listener.getsockname()[1]

    yield serve
    for listener in listeners:
        listener.close()


def test_every_server_is_listed_with_the_expiry_of_its_certificate(tmp_path, serve):
    wanted = {
        "authority": certificate(tmp_path, "ca", datetime.datetime(2036, 1, 1)),
        "etcd": certificate(tmp_path, "shown", datetime.datetime(2031, 1, 1)),
        "postgresql": certificate(tmp_path, "asked", datetime.datetime(2032, 1, 1)),
        "patroni": certificate(tmp_path, "ended", datetime.datetime(2021, 1, 1)),
    }
    certificate(tmp_path, "host", datetime.datetime(2035, 1, 1))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    servers = (f"etcd={serve('shown')}", f"postgresql={serve('asked', 8)}", f"patroni={serve('ended')}", f"service={nobody}")
    told = run(sys.executable, PROGRAM, tmp_path, tmp_path, "127.0.0.1", *servers)
    assert told.returncode == 0, told.stderr
    assert "service shows no certificate" in told.stderr
    figures = pathlib.Path(tmp_path, "dob-certificates.prom").read_text()
    found = re.findall(r'^dob_certificate_end_timestamp_seconds\{server="(\w+)"\} (\d+)$', figures, re.M)
    assert {name: int(end) for name, end in found} == wanted
