#!/usr/bin/python3
"""Keeps the keys of a host, asks for a certificate where one is needed, and installs what was signed.

Without `signed` it makes missing keys and answers the requests. With `signed` it installs each certificate together with its key.
"""

import datetime
import grp
import ipaddress
import os
import pathlib

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: host_certificates
short_description: The keys of a host, and the certificates for them
options:
  folder: {description: Where keys and certificates are, required: true, type: path}
  wanted: {description: The certificates, required: true, type: list, elements: dict}
  renew_days: {description: A certificate that ends within these days is renewed, required: true, type: int}
  new_keys: {description: Whether every key is replaced, type: bool, default: false}
  signed: {description: Certificates by name; without them the module answers requests, type: dict}
author: [dob-api]
"""
KINDS = ("key", "crt")


def load(path):
    """The certificate in a file, or None."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def key_of(path, replace, check):
    """The key in a file, which is made if it is missing; and whether it was made."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists() and not replace:
        return serialization.load_pem_private_key(path.read_bytes(), None), False
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    if not check:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(*form))
    return key, True


def extensions(one):
    """What a certificate says about who shows it, and for what."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usages = {"serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}
    names = [x509.DNSName(name) for name in one["names"]]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in one["addresses"]]
    found = [(x509.ExtendedKeyUsage([usages[name] for name in one["usages"]]), False)]
    # Digital signature, and none of the other eight.
    found.append((x509.KeyUsage(True, *[False] * 8), True))
    return found + ([(x509.SubjectAlternativeName(names), False)] if names else [])


def request(one, key):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one["subject"])]))
    for extension, critical in extensions(one):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


def suits(certificate, asked, ends_after):
    """Whether a certificate is what is asked for, and lasts."""
    if certificate is None or certificate.not_valid_after_utc < ends_after or certificate.subject != asked.subject:
        return False
    held = {extension.oid: extension.value for extension in certificate.extensions}
    same = all(held.get(extension.oid) == extension.value for extension in asked.extensions)
    return same and certificate.public_key() == asked.public_key()


def paths(folder, name, prefix=""):
    return [folder / f"{prefix}{name}.{kind}" for kind in KINDS]


def ask(folder, given, check):
    requests, changed = {}, False
    now = datetime.datetime.now(datetime.UTC)
    # What is renewed in any case may be given more days than a calendar has.
    ends_after = now + datetime.timedelta(days=min(given["renew_days"], 100000))
    for one in given["wanted"]:
        key, made = key_of(paths(folder, one["name"], "next-" if given["new_keys"] else "")[0], given["new_keys"], check)
        asked = request(one, key)
        if made or not suits(load(folder / f"{one['name']}.crt"), asked, ends_after):
            from cryptography.hazmat.primitives import serialization

            requests[one["name"]] = asked.public_bytes(serialization.Encoding.PEM).decode()
        changed |= made | own(folder, one, "next-" if given["new_keys"] else "", check)
    return {"changed": changed | tidy(folder, given["wanted"], check), "requests": requests}


def own(folder, one, prefix, check):
    """Lets root and one group read a key; whether that changed."""
    path = paths(folder, one["name"], prefix)[0]
    wanted = (0, grp.getgrnam(one["group"]).gr_gid, 0o640)
    if not path.exists() or (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == wanted:
        return False
    if not check:
        os.chown(path, *wanted[:2])
        path.chmod(wanted[2])
    return True


def tidy(folder, wanted, check):
    """Removes the host's own pair where it is not wanted any more."""
    stale = [path for path in paths(folder, "host") if "host" not in [one["name"] for one in wanted] and path.exists()]
    for path in [] if check else stale:
        path.unlink()
    return bool(stale)


def install(folder, given):
    for name, text in given["signed"].items():
        (folder / f"next-{name}.crt").write_text(text)
        (folder / f"next-{name}.crt").chmod(0o644)
        # Both at once: a program that reads them for each connection must not find one without the other.
        for partial, final in zip(paths(folder, name, "next-"), paths(folder, name), strict=True):
            if partial.exists():
                partial.rename(final)


def main():
    arguments = {
        "folder": {"type": "path", "required": True},
        "wanted": {"type": "list", "elements": "dict", "required": True},
        "renew_days": {"type": "int", "required": True},
        "new_keys": {"type": "bool", "default": False},
        # The values are certificates, which are public.
        "signed": {"type": "dict"},
    }
    module = AnsibleModule(arguments, supports_check_mode=True)
    folder = pathlib.Path(module.params["folder"])
    if module.params["signed"] is None:
        module.exit_json(**ask(folder, module.params, module.check_mode))
    if not module.check_mode:
        install(folder, module.params)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
