"""What the tests share: an image, and the cloud that its hosts find themselves in."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import boto3
import pytest

import emulator
from lab.hosts import nspawn, permissions, plan

TOP = pathlib.Path(__file__).resolve().parents[2]
SUBNET = "10.78.0"
REGION = FIRST = "eu-west-1"
STORE, COMPUTE = (f"{service}.{REGION}.amazonaws.com" for service in ("ssm", "ec2"))
MONITOR = f"{SUBNET}.31"
DATABASE = "database.internal"
PASSWORD = "a-password-that-no-log-shows"
# Before a command: Ctrl-C ends it even if this suite runs in the background, where shells have it ignored.
INTERRUPTIBLE = ("env", "--default-signal=INT")
# The role of the workflow that runs a script.
ROLES = {"publish": "release", "roll-out": "deploy", "updates": "updates"}


@pytest.fixture(scope="session")
def owner():
    with nspawn.Run() as run:
        yield run


def pytest_addoption(parser):
    parser.addoption("--deb", type=pathlib.Path, metavar="FILE", help="take this package instead of building one")
    parser.addoption("--image", type=pathlib.Path, metavar="FILE", help="boot this image instead of building one")


@pytest.fixture(scope="session")
def arch(request):
    given = request.config.getoption("--image")
    return given.stem.rpartition("_")[2] if given else "amd64"


@pytest.fixture(scope="session")
def deb(owner, arch, request):
    given = request.config.getoption("--deb")
    command = (TOP / "dev", "deb", "--arch", arch, "--out", owner.folder / "debs")
    return given or pathlib.Path(nspawn.run(*command, timeout=1800).stdout.strip())


@pytest.fixture(scope="session")
def sources(owner, deb):
    """The sources file of a signed repository that holds our package."""
    home, key = owner.folder / "gnupg", owner.folder / "key"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", home, "--batch", "--passphrase", "")
    nspawn.run(*gpg, "--quick-generate-key", "test <test@example.org>", "ed25519", "sign", "never")
    key.write_text(nspawn.run(*gpg, "--armor", "--export-secret-keys").stdout)
    nspawn.run("gpgconf", "--homedir", home, "--kill", "all")
    nspawn.run(TOP / "dev", "apt-repo", owner.folder / "repository", "--key", key, deb)
    return owner.folder / "repository/dob-api.sources"


@pytest.fixture(scope="session")
def build(owner, arch, sources):
    """Builds an image into a folder of that name and returns its file; of the repository's package if no other is named."""

    def make(name, *options):
        command = (TOP / "dev", "image", "--arch", arch, "--out", owner.folder / name, *(options or ("--sources", sources)))
        return pathlib.Path(nspawn.run(*command, timeout=1800).stdout.strip())

    return make


@pytest.fixture(scope="session")
def image(request):
    return request.config.getoption("--image") or request.getfixturevalue("build")("image")


def unpack(image, folder):
    """Takes the files out of the image, as its disk holds them."""
    table = json.loads(nspawn.run("sfdisk", "--json", image).stdout)["partitiontable"]
    (part,) = [part for part in table["partitions"] if part["name"] == "root"]
    system = folder.with_suffix(".system")
    folder.mkdir()
    nspawn.run("dd", f"if={image}", f"of={system}", "bs=512", f"skip={part['start']}", f"count={part['size']}", "conv=sparse")
    nspawn.run("debugfs", "-R", f"rdump / {folder}", system)
    system.unlink()
    return folder


@pytest.fixture(scope="session")
def tree(image, owner):
    """The files of the image."""
    return unpack(image, owner.folder / "tree")


@pytest.fixture(scope="session")
def network(owner):
    return nspawn.Network(owner, SUBNET)


@pytest.fixture(scope="session")
def authority(owner):
    """Signs a certificate for a name, and returns the file with it and its key."""
    ca, curve = owner.folder / "ca.pem", ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    nspawn.run("openssl", "req", "-x509", *curve, "-keyout", f"{ca}.key", "-out", ca, "-days", "2", "-subj", "/CN=test", *usage)

    def sign(name, *others):
        file = owner.folder / f"{name}.pem"
        names = ",".join(f"DNS:{one}" for one in (name, *others))
        subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE")
        command = ("openssl", "req", "-x509", *curve, "-CA", ca, "-CAkey", f"{ca}.key", "-days", "2", *subject)
        nspawn.run(*command, "-keyout", f"{file}.key", "-out", file)
        file.write_text(file.read_text() + pathlib.Path(f"{file}.key").read_text())
        return file

    sign.ca = ca
    return sign


@pytest.fixture(scope="session")
def database(network, authority):
    """A PostgreSQL that takes connections by TLS and password only."""
    rootfs = nspawn.run(TOP / "lab/hosts/debian", "trixie", timeout=900).stdout.strip()
    host = nspawn.Host(network, "database", f"{SUBNET}.20", rootfs).boot()
    host.write("/etc/postgresql.pem", authority(DATABASE).read_text())
    host.shell(f"""
        chown postgres /etc/postgresql.pem && chmod 600 /etc/postgresql.pem
        pg_createcluster {plan.POSTGRESQL} main -o listen_addresses='*' -o ssl=on -o ssl_cert_file=/etc/postgresql.pem \
            -o ssl_key_file=/etc/postgresql.pem
        echo 'hostssl all all {SUBNET}.0/24 scram-sha-256' >>/etc/postgresql/{plan.POSTGRESQL}/main/pg_hba.conf
        pg_ctlcluster {plan.POSTGRESQL} main start
        runuser -u postgres -- psql -qc "create role dob_api login password '{PASSWORD}'" -c 'create database dob_api owner dob_api'
    """)
    return host


def granted():
    """What Terraform lets the role of a monitoring host ask the EC2 interface."""
    text = re.search(r'"aws_iam_policy_document" "alert" \{(.*?)^\}', (TOP / "terraform/modules/region/identity.tf").read_text(), re.M | re.S)[1]
    return re.findall(r'"ec2:(\w+)"', text)


def both_authorities(ca):
    """What `./dev infra secrets` writes: the authority, and that of the monitoring hosts, which comes of its key."""
    spec = importlib.util.spec_from_file_location("certificates", TOP / "ansible/filter_plugins/certificates.py")
    certificates = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(certificates)
    return ca.read_text() + certificates.monitoring_authority(ca, f"{ca}.key")


class Cloud:
    """What the instance finds there; tests change it as they like."""

    def __init__(self, file, authority):
        self.file, self.authorities, self.identity = file, both_authorities(authority.ca), authority("service").read_text()
        self.set()

    def set(self, **changes):
        """Everything is right, except for the changes; those that are None are left out."""
        session = {"AccessKeyId": "ASIATEST", "SecretAccessKey": "never+in/any=log", "Token": "session//token+of=role"}
        right = {
            "user_data": f"# of the service\nDATABASE_URL=postgres://dob_api@{DATABASE}/dob_api\nDOB_API_DRAIN_DELAY=5s\n",
            "role": "dob-api",
            "region": REGION,
            "session": session,
            "parameters": {
                "/dob-api/database-password": PASSWORD,
                "/dob-api/database-ca": self.authorities,
                "/dob-api/service-identity": self.identity,
            },
            "instances": {},
            "actions": granted(),
        }
        state = {name: value for name, value in {**right, **changes}.items() if value is not None}
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(state))
        partial.replace(self.file)


@pytest.fixture(scope="session")
def cloud(network, authority, owner):
    """The metadata service, the parameter store, names and addresses of the network."""
    for address in ("169.254.169.253", "169.254.169.254"):
        network.ip("address", "add", f"{address}/32", "dev", network.bridge(SUBNET))
    found = Cloud(owner.folder / "cloud.json", authority)
    script = pathlib.Path(__file__).with_name("cloud.py")
    with (owner.folder / "cloud.log").open("w") as log:
        owner.spawn(sys.executable, script, found.file, authority(STORE, COMPUTE), namespace=network.namespace, stdout=log, stderr=log)
    # Records of hosts, as those also say that there is no IPv6 address: a resolver that is told nothing of it waits.
    names = [f"--host-record={STORE},{SUBNET}.1", f"--host-record={COMPUTE},{SUBNET}.1", f"--host-record={DATABASE},{SUBNET}.20", "--local=/#/"]
    leases = [f"--dhcp-host=52:54:00:12:34:56,{SUBNET}.50", f"--dhcp-range={SUBNET}.50,{SUBNET}.99", f"--dhcp-leasefile={owner.folder}/leases"]
    dnsmasq = ("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--no-resolv", "--no-hosts", "--pid-file")
    owner.spawn(*dnsmasq, *names, *leases, namespace=network.namespace, stderr=subprocess.DEVNULL)
    asked = ("ip", "netns", "exec", network.namespace, "curl", "-sm", "2", "http://169.254.169.254/")
    nspawn.wait_until(lambda: nspawn.run(*asked, check=False).returncode == 0, "the metadata service answers")
    return found


@pytest.fixture(scope="module")
def endpoint():
    permissions.enforce()
    server, url = emulator.serve()
    keys = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_MAX_ATTEMPTS": "2"}
    os.environ.update(keys, AWS_DEFAULT_REGION=FIRST, ROLL_OUT_PACE="0.01", PUBLISH_PACE="0.01")
    yield url
    server.stop()


@pytest.fixture
def aws(endpoint):
    """An account with nothing in it but what the test makes."""
    nspawn.run("curl", "-sS", "-X", "POST", f"{endpoint}/moto-api/reset")
    emulator.puts.clear()
    emulator.calls.clear()
    emulator.refreshes.clear()
    emulator.unfinished.clear()
    emulator.refuse_after, emulator.patience = None, 0
    yield lambda service, region=FIRST: boto3.client(service, region_name=region)
    emulator.refuse_after, emulator.patience = None, 0


def script(name, *arguments, status=0, **options):
    """Runs a script as the role of its workflow, by which name the emulated cloud knows it."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": ROLES[name]}
    done = nspawn.run(TOP / "ami" / name, *arguments, check=False, env=environment, **options)
    assert done.returncode == status, done.stdout + done.stderr
    return done
