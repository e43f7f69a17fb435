"""Signs certificate requests with the cluster's authority, where the playbook runs: its key goes to no host."""

import datetime
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# Clocks differ a little.
EARLIER = datetime.timedelta(minutes=5)


def load(authority_file, key_file):
    """The authority that signs, which is the first in its file, with its key."""
    try:
        authority = x509.load_pem_x509_certificates(pathlib.Path(authority_file).read_bytes())[0]
        key = serialization.load_pem_private_key(pathlib.Path(key_file).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"the authority cannot sign: {error}") from error
    if key.public_key() != authority.public_key():
        raise ValueError(f"{key_file} is not the key of the first certificate in {authority_file}")
    return authority, key


def of_monitoring(authority, key):
    """The authority of the monitoring hosts. Its key follows from the cluster's, so there is no second one to keep, and it is always the same."""
    form = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    derived = HKDF(hashes.SHA256(), 32, None, b"dob-api monitoring").derive(key.private_bytes(*form))
    own = ed25519.Ed25519PrivateKey.from_private_bytes(derived)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "monitoring")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(authority.serial_number)
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(True, 0), True)
        # An authority's usages: it signs certificates, and lists of revoked ones.
        .add_extension(x509.KeyUsage(*[False] * 5, True, True, False, False), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False)
    )
    return builder.sign(own, None), own


def monitoring_authority(authority_file, key_file):
    return of_monitoring(*load(authority_file, key_file))[0].public_bytes(serialization.Encoding.PEM).decode()


def sign_certificates(requests, authority_file, key_file, days):
    """A certificate for each request, by name; the one named monitor is of the monitoring hosts' authority."""
    cluster = load(authority_file, key_file)
    authorities = {name: of_monitoring(*cluster) if name == "monitor" else cluster for name in requests}
    return {name: sign(x509.load_pem_x509_csr(text.encode()), *authorities[name], days) for name, text in requests.items()}


def sign(request, authority, key, days):
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(authority.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False)
    )
    for extension in request.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


class FilterModule:
    def filters(self):
        return {"sign_certificates": sign_certificates, "monitoring_authority": monitoring_authority}
