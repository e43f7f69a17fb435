"""Stores of backups by variables: what is incomplete is refused by a sentence, and pgBackRest itself takes what is rendered."""

import base64
import importlib.util
import json
import shlex
import subprocess

import jinja2
import pytest

from lab.hosts.cluster import rootfs
from tools import TOP

TEMPLATE = TOP / "ansible/roles/pgbackrest/templates/pgbackrest.conf.j2"
PASS = {"cipher_pass": "secret-of-the-cipher"}
# Nothing listens there: what pgBackRest complains about is the connection, and not the configuration.
DEAD = {"endpoint": "127.0.0.1:1"}
S3 = {"bucket": "backup", "s3_region": "eu-west-1", **PASS}
AZURE = {"type": "azure", "container": "backup", "account": "account", "key": base64.b64encode(b"key").decode(), **PASS}
GCS = {"type": "gcs", "bucket": "backup", **PASS}
SFTP = {"type": "sftp", "host": "127.0.0.1", "user": "postgres", "private_key_file": "/keys/key", "fingerprint": "0" * 64, **PASS}
POSIX = {"type": "posix", "path": "/backups", **PASS}
COMPLETE = {
    "s3": S3,
    "s3-compatible": {**S3, **DEAD, "ca_file": "/etc/ssl/certs/ca-certificates.crt", "key": "key", "key_secret": "secret", "uri_style": "host"},
    "azure": AZURE,
    "azure-sas": {**AZURE, **DEAD, "key_type": "sas", "key": "sig=abc"},
    "gcs": {**GCS, **DEAD},
    "gcs-key": {**GCS, **DEAD, "key_file": "/keys/gcs.json"},
    "sftp": {**SFTP, "port": 2222},
    "posix": POSIX,
}


def without(store, name):
    return {key: value for key, value in store.items() if key != name}


FAULTY = [
    (without(S3, "bucket"), "pgbackrest_repositories.a lacks bucket"),
    (without(S3, "s3_region"), "lacks s3_region"),
    ({**S3, "cipher_pass": ""}, "lacks cipher_pass"),
    ({**S3, "key": "key"}, "has one of key and key_secret"),
    ({**S3, "uri_style": "virtual"}, "has 'virtual' as uri_style: choose host or path"),
    ({**S3, "container": "backup"}, "has the unknown container: a store of type s3 has bucket, "),
    ({**S3, "ca_file": "ca.crt"}, "has 'ca.crt' as ca_file: write an absolute path"),
    ({**S3, "bucket": "backup\nrepo1-cipher-type=none"}, "has no text on one line as bucket"),
    (without(AZURE, "account"), "lacks account"),
    (without(AZURE, "key"), "lacks key"),
    ({**AZURE, "key_type": "token"}, "choose shared or sas"),
    (without(GCS, "bucket"), "lacks bucket"),
    (without(SFTP, "fingerprint"), "lacks fingerprint"),
    (without(SFTP, "private_key_file"), "lacks private_key_file"),
    ({**SFTP, "fingerprint": "SHA256:abc"}, "has a fingerprint that is not the SHA-256"),
    (without(POSIX, "path"), "lacks path"),
    ({**POSIX, "path": "backups"}, "write an absolute path"),
    ({**S3, "type": "ftp"}, "has the unknown type 'ftp': choose among s3, azure, gcs, sftp, posix"),
]


def filters():
    found = importlib.util.spec_from_file_location("stores", TOP / "ansible/filter_plugins/stores.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.FilterModule().filters()


FILTERS = filters()


def rendered(store):
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= FILTERS
    settings = {"pgbackrest_buckets": ["a"], "pgbackrest_repositories": {"a": store}, "pgbackrest_stanzas": ["a"], "pgbackrest_queue": ""}
    settings |= {"pgbackrest_keep_full": 4, "pgbackrest_process_max": 1, "postgresql_data_folder": "/var/lib/postgresql/a"}
    return environment.from_string(TEMPLATE.read_text()).render(settings)


@pytest.mark.parametrize(("store", "sentence"), FAULTY)
def test_an_incomplete_store_is_refused_without_its_secrets(store, sentence):
    said = "; ".join(FILTERS["store_faults"]({"a": store}))
    assert sentence in said
    assert PASS["cipher_pass"] not in said


@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_store_is_not_refused(name):
    assert FILTERS["store_faults"]({"a": COMPLETE[name]}) == []


INSIDE = """
mount -t tmpfs tmpfs .
cd "$PWD"
mkdir up work root
mount -t overlay overlay -o "lowerdir=$1,upperdir=up,workdir=work" root
mount --rbind /dev root/dev
mount -t proc proc root/proc
ip link set lo up
exec chroot root bash -euc "$2"
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Runs a script where the programs of a database host are, and no network is but loopback."""
    folder, system = tmp_path_factory.mktemp("host"), rootfs("database")

    def run(script):
        unshare = ("unshare", "--mount", "--net", "--pid", "--fork", "sh", "-euc", INSIDE, "sh", system, script)
        return subprocess.run(unshare, cwd=folder, capture_output=True, text=True, timeout=120)

    return run


def written(store, file="/etc/pgbackrest.conf"):
    return f"cat >{file} <<'END'\n{rendered(store)}\nEND\n"


GCS_KEY = {"type": "service_account", "client_email": "a@b", "token_uri": "https://127.0.0.1:1/token", "private_key": "none"}


def test_pgbackrest_understands_every_option_of_every_store(host):
    script = f"mkdir -p /keys /backups /said; echo {shlex.quote(json.dumps(GCS_KEY))} >/keys/gcs.json; touch /keys/key\n"
    for name, store in COMPLETE.items():
        script += written(store, f"/etc/{name}.conf")
        script += f"(pgbackrest --config=/etc/{name}.conf --stanza=a --repo=1 --io-timeout=1 info >/said/{name} 2>&1 || true) &\n"
    done = host(script + 'wait; for name in /said/*; do echo "== ${name##*/}"; cat $name; done')
    answers = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert answers.keys() == COMPLETE.keys(), done.stderr
    for name, said in answers.items():
        assert "option" not in said and "stanza: a" in said, f"{name}: {said}"


def test_an_option_that_pgbackrest_does_not_have_would_be_noticed(host):
    done = host(written(POSIX) + "echo repo1-sftp-nothing=1 >>/etc/pgbackrest.conf; mkdir /backups; pgbackrest --stanza=a --repo=1 info 2>&1")
    assert "option" in done.stdout, done.stdout


CREATE = """
runuser -u postgres -- /usr/lib/postgresql/*/bin/initdb --no-sync --pgdata=/var/lib/postgresql/a >/dev/null
runuser -u postgres -- pgbackrest --stanza=a --no-online stanza-create
runuser -u postgres -- pgbackrest --stanza=a info
"""


@pytest.mark.long
def test_a_folder_is_a_store_that_is_encrypted(host):
    done = host(f"install -o postgres -d /backups\n{written(POSIX)}{CREATE}head -c 8 /backups/archive/a/archive.info")
    assert "cipher: aes-256-cbc" in done.stdout and done.stdout.endswith("Salted__"), done.stderr


SSHD = """
mkdir -p /run/sshd /keys /pgbackrest
ssh-keygen -q -t ed25519 -N '' -f /keys/host
ssh-keygen -q -t ed25519 -N '' -f /keys/key
usermod --password '*' postgres
chown postgres /keys/key
install -o postgres -d /var/lib/postgresql/.ssh /pgbackrest
install -o postgres -m 600 /keys/key.pub /var/lib/postgresql/.ssh/authorized_keys
/usr/sbin/sshd -f /dev/null -p 2222 -o ListenAddress=127.0.0.1 -o HostKey=/keys/host -o Subsystem='sftp internal-sftp' -o StrictModes=no
print() { ssh-keygen -lf /keys/host.pub -E sha256 | sed 's/.*SHA256:\\([^ ]*\\) .*/\\1=/' | base64 -d | od -An -v -tx1 | tr -d ' \\n'; }
"""


def sftp(then):
    """A script that makes a host with sftp, and a configuration with another key's fingerprint."""
    return f"{SSHD}{written({**SFTP, 'port': 2222})}{then}"


@pytest.mark.long
def test_a_host_with_sftp_is_a_store_that_is_encrypted(host):
    done = host(sftp(f'sed -i "s/{SFTP["fingerprint"]}/$(print)/" /etc/pgbackrest.conf\n{CREATE}head -c 8 /pgbackrest/archive/a/archive.info'))
    assert "cipher: aes-256-cbc" in done.stdout and done.stdout.endswith("Salted__"), done.stderr


@pytest.mark.long
def test_a_host_with_sftp_that_has_another_key_gets_nothing(host):
    done = host(sftp("runuser -u postgres -- pgbackrest --stanza=a --repo=1 repo-ls"))
    assert done.returncode != 0 and "fingerprint" in done.stderr, done.stderr
