"""Where a rehearsal takes place: a booted host like a hosted runner, with the cloud and GitHub on its loopback.

Everything is in the host's network namespace, which reaches nothing else: this process joins it.
"""

import ctypes
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

from lab.hosts import nspawn
from rehearsal import workflows

TOP = pathlib.Path(__file__).resolve().parent.parent
HERE = TOP / "rehearsal"
sys.path.append(str(TOP / "terraform/tests"))

import cloud  # noqa: E402 the suite of terraform finds it in its own folder

SUBNET = "10.79.0"
ACCOUNT, DOMAIN, REPOSITORY = "123456789012", "dob.example.com", "dob-api/dob-api"
SUBJECT = "dob-api@1234/dob-api@5678"
CLOUD = "http://127.0.0.1:4566"
SERVICE = " ".join(f"{name}.{DOMAIN}" for name in ("api", *cloud.REGIONS.values()))
NAMES = {"127.0.0.1": f"api.github.localhost {SERVICE}", "127.0.0.2": "ghcr.io"}
# The packages of production that the programs on the host import; those of Ansible itself need none there.
CLIENT = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six.py", "urllib3")
CLONE_NEWNET = 0x40000000


def venv(group):
    """The environment of a group of tools on this machine."""
    return pathlib.Path(nspawn.run(TOP / "tools/venv", group, timeout=900).stdout.strip())


class Runner(nspawn.Host):
    """A host like a hosted runner, on which the origin of the sources, the stand-ins and the tools lie."""

    def volumes(self):
        """The provider of Terraform is large, so it is not copied; the state is shared with this process."""
        binds = {self.providers: "srv/providers", self.state: "srv/rehearsal/state"}
        for target in binds.values():
            (self.folder / "upper" / target).mkdir(parents=True, exist_ok=True)
        return "".join(f"mount --bind {source} {self.tree / target} && " for source, target in binds.items())

    def file(self, path):
        """A path of the host as this process sees it."""
        return pathlib.Path(f"/proc/{self.leader}/root{path}")

    def follow(self, *command):
        """Runs a command on the host as root, and yields each line that it prints when it comes."""
        environment = [f"{name}={value}" for name, value in nspawn.ENVIRONMENT.items()]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with self.owner.spawn("nsenter", "-t", self.leader, "-a", "env", "-i", *environment, *command, group=self.name, **pipes) as process:
            yield from process.stdout


class Place:
    """Everything, from entry to exit."""

    def __init__(self):
        self.owner = nspawn.Run()
        self.state = self.owner.folder / "state"
        self.state.mkdir()
        self.token = f"ghs_{secrets.token_hex(16)}"
        self.variables = {
            "AWS_ACCOUNT": ACCOUNT, "DOMAIN": DOMAIN, "APT_BUCKET": f"dob-api-apt-{ACCOUNT}-eu-west-1", "APT_URL": "https://apt.example.org",
            "TERRAFORM_ROOTS": "{}",
        }  # fmt: skip
        self.secrets = {"GITHUB_TOKEN": self.token}
        # Gets each job when it ends: its name, its result, and the seconds that it took.
        self.tell = lambda *_: None

    def __enter__(self):
        self.prepare_keys()
        self.write_settings()
        self.boot()
        self.serve()
        return self

    def __exit__(self, *_):
        self.owner.__exit__()

    def prepare_keys(self):
        """The secrets of the environments, and the authority that the host trusts."""
        folder = self.owner.folder
        (self.state / "secret").write_bytes(secrets.token_bytes(32))
        (self.state / "debian").write_text("openssl 3.5.1-1\n")
        (self.state / "failing").touch()
        for name in ("played", "said", "failed"):
            (self.state / name).touch()
            # Written by the user of the jobs.
            (self.state / name).chmod(0o666)
        home = folder / "gnupg"
        home.mkdir(mode=0o700)
        gpg = ("gpg", "--homedir", home, "--batch", "--passphrase", "")
        nspawn.run(*gpg, "--quick-generate-key", "rehearsal <rehearsal@example.org>", "ed25519", "sign", "never")
        listed = nspawn.run(*gpg, "--with-colons", "--list-keys").stdout
        self.variables["APT_FINGERPRINT"] = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
        self.secrets["APT_SIGNING_KEY"] = nspawn.run(*gpg, "--armor", "--export-secret-keys").stdout
        nspawn.run("gpgconf", "--homedir", home, "--kill", "all")
        nspawn.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ssh")
        shutil.copy(folder / "ssh.pub", self.state)
        self.secrets["SSH_KEY"] = (folder / "ssh").read_text()
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        nspawn.run("openssl", "req", "-x509", *curve, "-keyout", folder / "ca.key", "-out", folder / "ca.crt", "-subj", "/CN=rehearsal", *usage)
        names = ",".join(f"DNS:{name}" for line in NAMES.values() for name in line.split())
        subject = ("-subj", "/CN=rehearsal host", "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE")
        command = ("openssl", "req", "-x509", *curve, "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", *subject)
        nspawn.run(*command, "-keyout", folder / "server.key", "-out", folder / "server.crt")
        (folder / "server.pem").write_text((folder / "server.crt").read_text() + (folder / "server.key").read_text())
        self.secrets["AUTHORITY"] = (folder / "ca.crt").read_text()
        self.secrets["AUTHORITY_KEY"] = (folder / "ca.key").read_text()

    def write_settings(self):
        """The repository as its administrator set it up, after docs/github.md."""
        answers = {}
        for name, wanted in workflows.SETTINGS["environments"].items():
            rules = [{"type": "required_reviewers", "prevent_self_review": True, "reviewers": [{"type": "Team"}]}] if wanted["reviewers"] else []
            policies = [dict(zip(("type", "name"), place.split(), strict=True)) for place in wanted["from"]]
            answers[f"/environments/{name}"] = {"protection_rules": rules, "deployment_branch_policy": {"custom_branch_policies": True}}
            answers[f"/environments/{name}/deployment-branch-policies"] = {"branch_policies": policies}
        pins = [f"/repos/{action}/git/commits/{pin['commit']}" for action, pin in workflows.PINS.items()]
        self.settings = {
            "repository": REPOSITORY, "subject": SUBJECT, "token": self.token, "tags": [], "answers": answers, "pins": pins,
        }  # fmt: skip
        self.save_settings()
        (self.state / "jobs.json").write_text(json.dumps(workflows.given()))
        (self.state / "workflows.json").write_text(json.dumps(list(workflows.startable())))

    def save_settings(self):
        partial = self.state / "settings.partial"
        partial.write_text(json.dumps(self.settings))
        partial.replace(self.state / "settings.json")

    def boot(self):
        rootfs = nspawn.run(HERE / "rootfs", timeout=1800).stdout.strip()
        network = nspawn.Network(self.owner, SUBNET)
        self.host = Runner(network, "runner", f"{SUBNET}.10", rootfs)
        self.host.state, self.host.providers = self.state, self.providers()
        upper = self.host.folder / "upper"
        self.fill(upper / "srv/rehearsal")
        self.origin = upper / "srv/origin"
        self.commit_sources()
        (upper / "etc").mkdir(exist_ok=True)
        (upper / "etc/hosts").write_text(hosts_file())
        authority = upper / "usr/local/share/ca-certificates/rehearsal.crt"
        authority.parent.mkdir(parents=True)
        shutil.copy(self.owner.folder / "ca.crt", authority)
        self.host.boot()
        self.host.shell("""
            update-ca-certificates
            cp -a /srv/rehearsal/absent /srv/rehearsal/lacking
            mkdir -m 700 /home/runner/run
            chown -R runner: /srv/origin /srv/rehearsal/artifacts /srv/rehearsal/actions /home/runner
        """)
        join(f"/run/netns/{self.host.namespace}")

    def providers(self):
        """The folder of this machine's mirror of Terraform's providers, or one that is filled from the registry."""
        settings = cloud.provider_settings(self.owner.folder)
        if "TF_PLUGIN_CACHE_DIR" in settings:
            return pathlib.Path(settings["TF_PLUGIN_CACHE_DIR"])
        return pathlib.Path((self.owner.folder / "terraform.rc").read_text().split('"')[1])

    def fill(self, folder):
        """The stand-ins and tools on the host."""
        folder.mkdir(parents=True)
        shutil.copytree(HERE / "host", folder / "bin")
        (folder / "bin/made").rename(folder / "made")
        (folder / "bin/fresh").rename(folder / "fresh")
        self.playbooks(folder)
        for name in ("standins.py", "front.py"):
            shutil.copy(HERE / name, folder)
        shutil.copy(shutil.which("terraform"), folder)
        shutil.copy(venv("rehearsal") / "bin/act", folder)
        shutil.copy(self.binary(), folder / "dob-api")
        for action in workflows.PINS:
            shutil.copytree(HERE / "actions" / action, folder / "actions" / action)
            git(folder / "actions" / action, "stand-in")
        (folder / "artifacts").mkdir()
        (folder / "terraform.rc").write_text(
            'provider_installation {\n  filesystem_mirror {\n    path = "/srv/providers"\n    include = ["hashicorp/aws"]\n  }\n}\n'
        )

    def playbooks(self, folder):
        """Production's environment, as `tools/venv` finds it: the client of the cloud, and a stand-in for ansible-playbook."""
        made = venv("production")
        here = folder.parents[1] / "home/runner/.cache/dob-api" / made.name
        (here / "bin").mkdir(parents=True)
        (folder / "bin/ansible-playbook").rename(here / "bin/ansible-playbook")
        (packages,) = made.glob("lib/python3*/site-packages")
        for name in CLIENT:
            nspawn.run("cp", "-a", packages / name, here)
        for name in ("python", "python3"):
            python = here / "bin" / name
            python.write_text(f'#!/bin/sh\nPYTHONPATH="/home/runner/.cache/dob-api/{made.name}:$PYTHONPATH" exec /usr/bin/python3 "$@"\n')
            python.chmod(0o755)
        (here / "whole").touch()

    def binary(self):
        target = f"{os.uname().machine}-unknown-linux-musl"
        return TOP / nspawn.run(TOP / "dev", "build", target, timeout=3600).stdout.strip()

    def commit_sources(self):
        """The origin: the sources as they are here, with the heading of a release."""
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=TOP, check=True, capture_output=True)
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (TOP / name).is_file():
                (self.origin / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(TOP / name, self.origin / name)
        self.version = next(line.split('"')[1] for line in (self.origin / "Cargo.toml").read_text().splitlines() if line.startswith("version"))
        log = self.origin / "CHANGELOG.md"
        log.write_text(log.read_text().replace("## Unreleased\n", f"## {self.version} - 2026-11-30\n", 1))
        for root in cloud.ROOTS:
            # The emulator is asked once, not 25 times, what it does not have.
            (self.origin / "terraform" / root / "emulator_override.tf").write_text('provider "aws" {\n  max_retries = 4\n}\n')
        git(self.origin, "sources")
        nspawn.run("git", "-C", self.origin, "tag", f"v{self.version}")
        self.settings["main"] = nspawn.run("git", "-C", self.origin, "rev-parse", "HEAD").stdout.strip()
        self.save_settings()
        nspawn.run("git", "-C", self.origin, "remote", "add", "origin", f"https://github.com/{REPOSITORY}")

    def serve(self):
        """The cloud, GitHub, a registry, and the service behind the names of the regions."""
        log = (self.owner.folder / "servers.log").open("w")
        both = {"stdout": log, "stderr": log}
        env = os.environ | {"MOTO_AMIS_PATH": str(TOP / "terraform/tests/images.json"), "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
        self.host.spawn(sys.executable, "-B", HERE / "emulator.py", "4566", self.state, env=env | {"PYTHONPATH": str(TOP)}, **both)
        self.host.spawn(sys.executable, "-B", HERE / "github.py", self.state, **both)
        service = {"DOB_API_LISTEN": "127.0.0.1:8080", "DOB_API_ADMIN_LISTEN": "127.0.0.1:9080", "DOB_API_DATA_DIR": str(self.owner.folder / "users")}
        self.host.spawn(self.binary(), env=os.environ | service, **both)
        self.host.spawn(sys.executable, "-B", HERE / "front.py", self.owner.folder / "server.pem", "127.0.0.1:443", "8080", **both)
        self.registry(both)
        for url in (f"{CLOUD}/moto-api/", "http://127.0.0.1:80/nothing", "http://127.0.0.1:8080/healthz"):
            nspawn.wait_until(lambda url=url: answers(url), f"{url} answers", 180)

    def registry(self, both):
        """A registry that wants the job's token, behind TLS."""
        hashed = self.host.shell("mkpasswd --method=bcrypt --stdin <<END\n" + self.token + "\nEND").stdout.strip()
        self.host.write("/srv/rehearsal/htpasswd", f"dob-api:{hashed}\n")
        for name in ("server.crt", "server.key"):
            self.host.write(f"/srv/rehearsal/{name}", (self.owner.folder / name).read_text(), 0o600)
        config = {
            "version": 0.1, "storage": {"filesystem": {"rootdirectory": "/srv/registry"}},
            "http": {"addr": "127.0.0.2:443", "tls": {"certificate": "/srv/rehearsal/server.crt", "key": "/srv/rehearsal/server.key"}},
            "auth": {"htpasswd": {"realm": "ghcr.io", "path": "/srv/rehearsal/htpasswd"}},
        }  # fmt: skip
        self.host.write("/srv/rehearsal/registry.yml", json.dumps(config))
        self.host.run("systemd-run", "--quiet", "--unit=registry", "docker-registry", "serve", "/srv/rehearsal/registry.yml")


def hosts_file():
    return "127.0.0.1 localhost runner\n" + "".join(f"{address} {names}\n" for address, names in NAMES.items())


def git(folder, message):
    """Makes a folder a repository with all of it in one commit."""
    for command in (["init", "--quiet", "--initial-branch=main"], ["add", "--all", "--force"], ["commit", "--quiet", "--message", message]):
        nspawn.run("git", "-C", folder, "-c", "user.name=rehearsal", "-c", "user.email=rehearsal@example.org", "-c", "safe.directory=*", *command)


def join(namespace):
    """Brings this process, and what it starts, into a network namespace."""
    descriptor = os.open(namespace, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise nspawn.Failed(f"cannot join {namespace}: {os.strerror(ctypes.get_errno())}")
    os.close(descriptor)


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=2)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
