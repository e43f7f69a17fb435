"""Signs certificate requests with the cluster's authority, where the playbook runs: its key goes to no host."""

import datetime
import pathlib

from ansible.errors import AnsibleFilterError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

# Clocks differ a little.
EARLIER = datetime.timedelta(minutes=5)


def sign_certificates(requests, authority_file, key_file, days):
    """A certificate for each request, by name. The first certificate in the authority's file signs."""
    try:
        authority = x509.load_pem_x509_certificates(pathlib.Path(authority_file).read_bytes())[0]
        key = serialization.load_pem_private_key(pathlib.Path(key_file).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise AnsibleFilterError(f"the authority cannot sign: {error}") from error
    if key.public_key() != authority.public_key():
        raise AnsibleFilterError(f"{key_file} is not the key of the first certificate in {authority_file}")
    return {name: sign(x509.load_pem_x509_csr(text.encode()), authority, key, days) for name, text in requests.items()}


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
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class FilterModule:
    def filters(self):
        return {"sign_certificates": sign_certificates}
