"""What is wrong with the stores of backups, and the options that pgBackRest gets for each; see the role pgbackrest."""

import re
import typing


class Store(typing.NamedTuple):
    """A kind of store: the options that it needs and may have, by our names, and those that it always gets."""

    needs: dict
    may: dict
    fixed: dict


CA = {"ca_file": "storage-ca-file"}
STORES = {
    "s3": Store(
        {"bucket": "s3-bucket", "s3_region": "s3-region"},
        {"endpoint": "s3-endpoint", "uri_style": "s3-uri-style", "key": "s3-key", "key_secret": "s3-key-secret", **CA},
        {},
    ),
    "azure": Store(
        {"container": "azure-container", "account": "azure-account", "key": "azure-key"},
        {"key_type": "azure-key-type", "endpoint": "azure-endpoint", **CA},
        {},
    ),
    "gcs": Store({"bucket": "gcs-bucket"}, {"key_file": "gcs-key", "endpoint": "gcs-endpoint", **CA}, {}),
    "sftp": Store(
        {
            "host": "sftp-host",
            "user": "sftp-host-user",
            "private_key_file": "sftp-private-key-file",
            "fingerprint": "sftp-host-fingerprint",
        },
        {"port": "sftp-host-port"},
        {"sftp-host-key-hash-type": "sha256", "sftp-host-key-check-type": "fingerprint"},
    ),
    "posix": Store({"path": "path"}, {}, {}),
}
COMMON = {"type", "path", "cipher_pass"}
ABSOLUTE = re.compile(r"/[^\s]*[^\s/]")
CHOICES = {"uri_style": ("host", "path"), "key_type": ("shared", "sas")}


def store_faults(stores):
    """A sentence for each fault, by the region of the store. None repeats a secret."""
    return [f"pgbackrest_repositories.{region} {fault}" for region, store in stores.items() for fault in faults_of(store)]


def faults_of(store):
    kind = STORES.get(store.get("type", "s3"))
    if kind is None:
        yield f"has the unknown type {store['type']!r}: choose among {', '.join(STORES)}"
        return
    known = kind.needs.keys() | kind.may.keys() | COMMON
    yield from (f"lacks {name}" for name in [*kind.needs, "cipher_pass"] if not store.get(name))
    yield from (
        f"has the unknown {name}: a store of type {store.get('type', 's3')} has {', '.join(sorted(known))}" for name in sorted(store.keys() - known)
    )
    yield from (f"has no text on one line as {name}" for name in sorted(store.keys() & known) if not re.fullmatch(r"[^\r\n]+", str(store[name])))
    yield from (f"has {store[name]!r} as {name}: choose {' or '.join(of)}" for name, of in CHOICES.items() if store.get(name, of[0]) not in of)
    yield from (
        f"has {store[name]!r} as {name}: write an absolute path without blanks"
        for name in ("path", "ca_file", "key_file", "private_key_file")
        if store.get(name) and not ABSOLUTE.fullmatch(str(store[name]))
    )
    if "s3_region" in kind.needs and bool(store.get("key")) != bool(store.get("key_secret")):
        yield "has one of key and key_secret: give both, or none where the host's own role opens the bucket"
    if store.get("fingerprint") and not re.fullmatch("[0-9a-f]{64}", str(store["fingerprint"])):
        yield "has a fingerprint that is not the SHA-256 of the host's key in 64 digits of 0-9 and a-f"


def store_options(store):
    """The options of pgBackRest without their number, such as repo1-, by name."""
    kind = STORES[store.get("type", "s3")]
    given = {option: store[name] for name, option in (kind.needs | kind.may).items() if store.get(name)}
    return {
        "type": store.get("type", "s3"),
        "path": store.get("path", "/pgbackrest"),
        **defaults(store),
        **kind.fixed,
        **given,
        "cipher-type": "aes-256-cbc",
        "cipher-pass": store["cipher_pass"],
    }


def defaults(store):
    """What follows from what is given, or is not."""
    match store.get("type", "s3"):
        case "s3":
            style = {"s3-uri-style": "path"} if store.get("endpoint") else {"s3-endpoint": f"s3.{store['s3_region']}.amazonaws.com"}
            return style if store.get("key") else {**style, "s3-key-type": "auto"}
        case "gcs":
            return {"gcs-key-type": "service" if store.get("key_file") else "auto"}
        case _:
            return {}


class FilterModule:
    def filters(self):
        return {"store_faults": store_faults, "store_options": store_options}
