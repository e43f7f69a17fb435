"""What the tests share: the packages, an apt repository that serves them, and a booted host with our package."""

import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import pytest

from lab.hosts import nspawn

TOP = pathlib.Path(__file__).resolve().parents[2]
SUITES = ("trixie", "bookworm")
VERSION = re.search(r'^version = "(.+)"', (TOP / "Cargo.toml").read_text(), re.M)[1]
SUBNET = "10.77.0"


@pytest.fixture(scope="session")
def owner():
    with nspawn.Run() as run:
        yield run


@pytest.fixture(scope="session")
def network(owner):
    return nspawn.Network(owner, SUBNET)


@pytest.fixture(scope="session")
def binaries():
    """The static binary of each architecture."""
    targets = {"amd64": "x86_64-unknown-linux-musl", "arm64": "aarch64-unknown-linux-musl"}
    built = {arch: nspawn.run(TOP / "dev", "build", target, timeout=1800).stdout.strip() for arch, target in targets.items()}
    return {arch: TOP / path for arch, path in built.items()}


def flags(binaries):
    return [part for arch, binary in binaries.items() for part in (f"--{arch}", binary)]


@pytest.fixture(scope="session")
def image(binaries, owner):
    """The container image: the folder of its layout, and its digest."""
    out = owner.folder / "image"
    printed = nspawn.run(TOP / "dev", "container", *flags(binaries), "--out", out).stdout
    return out, printed.split()[1]


@pytest.fixture(scope="session")
def debs(binaries, owner):
    """Our packages: of this version for both architectures, and of a next one."""

    def package(top, arch):
        out = owner.folder / "debs"
        command = (top / "dev", "deb", "--arch", arch, "--binary", binaries[arch], "--out", out)
        return pathlib.Path(nspawn.run(*command, timeout=1800).stdout.strip())

    # The next version brings a changed settings file, which an edit of the user's must survive.
    tree, version = owner.folder / "next", f"{VERSION}+next"
    for part in ("packaging", "src", "tools"):
        shutil.copytree(TOP / part, tree / part)
    for part in ("dev", "Cargo.toml", "Cargo.lock", "CHANGELOG.md", "rust-toolchain.toml"):
        shutil.copy(TOP / part, tree)
    edit(tree / "Cargo.toml", f'version = "{VERSION}"', f'version = "{version}"')
    edit(tree / "Cargo.lock", f'name = "dob-api"\nversion = "{VERSION}"', f'name = "dob-api"\nversion = "{version}"')
    edit(tree / "CHANGELOG.md", "\n## ", f"\n## {version} (2026-11-23)\n\n- Next\n\n## ")
    with (tree / "packaging/debian/dob-api.default").open("a") as settings:
        settings.write("\n# A setting of the next version.\n")
    return {"amd64": package(TOP, "amd64"), "arm64": package(TOP, "arm64"), "next": package(tree, "amd64")}


def version_of(deb):
    return nspawn.run("dpkg-deb", "--field", deb, "Version").stdout.strip()


def edit(path, old, new):
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1))


@pytest.fixture(scope="session")
def keys(owner):
    """Makes a signing key for this run and returns the file with it."""

    @functools.cache
    def make(name):
        home = owner.folder / f"gnupg-{name}"
        home.mkdir(mode=0o700)
        gpg = ("gpg", "--homedir", home, "--batch", "--passphrase", "")
        nspawn.run(*gpg, "--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign", "never")
        file = owner.folder / f"{name}.key"
        file.write_text(nspawn.run(*gpg, "--armor", "--export-secret-keys").stdout)
        nspawn.run("gpgconf", "--homedir", home, "--kill", "all")
        return file

    return make


@pytest.fixture(scope="session")
def site(owner, network):
    """The folder that a web server on the test's network shows."""
    folder = owner.folder / "site"
    folder.mkdir()
    server = ("http.server", "--bind", f"{SUBNET}.1", "--directory", folder, "80")
    owner.spawn(sys.executable, "-m", *server, namespace=network.namespace, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def repository(site, debs, keys):
    """Adds packages to a repository on the site, signed, and returns its folder."""

    def publish(name, *packages, key="test"):
        url = f"http://{SUBNET}.1/{name}"
        nspawn.run(TOP / "dev", "apt-repo", site / name, "--key", keys(key), "--url", url, *(debs[key] for key in packages))
        return site / name

    return publish


@pytest.fixture(scope="session")
def released(repository):
    """A repository with this version, and one that has the next as well."""
    repository("released", "amd64", "arm64")
    repository("upgraded", "amd64")
    return repository("upgraded", "next")


@pytest.fixture(scope="session")
def rootfs():
    return functools.cache(lambda suite: nspawn.run(TOP / "lab/hosts/debian", suite, timeout=900).stdout.strip())


@pytest.fixture(params=SUITES)
def bare(request, network, rootfs):
    """A booted Debian host."""
    host = Machine(network, request.param, f"{SUBNET}.10", rootfs(request.param)).boot()
    yield host
    host.remove()


@pytest.fixture
def host(bare, released):
    """A booted Debian host on which our package was installed, as the README says."""
    bare.use_repository("released")
    bare.run("apt-get", "install", "--yes", "dob-api")
    return bare


class Machine(nspawn.Host):
    """A host, with what the tests do on it."""

    def use_repository(self, name, check=True):
        self.shell(f"curl -fsSo /etc/apt/sources.list.d/dob-api.sources http://{SUBNET}.1/{name}/dob-api.sources")
        return self.run("apt-get", "update", "--error-on=any", check=check)

    def property(self, name, unit="dob-api.service"):
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def curl(self, path, *options, check=True):
        return self.run("curl", "-sS", "-m", "10", "-w", "%{http_code}", *options, f"http://127.0.0.1:8080{path}", check=check).stdout

    def save(self, name, date="2000-02-03"):
        assert self.curl(f"/hello/{name}", "-X", "PUT", "-d", f'{{"dateOfBirth":"{date}"}}') == "204"

    def knows(self, name):
        return self.curl(f"/hello/{name}").endswith("200")

    def load(self):
        return Load(self)


class Load:
    """Clients on the host's own network, from entry to exit; afterwards what they recorded."""

    def __init__(self, host):
        self.host = host

    def __enter__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = self.host.spawn(sys.executable, "-Bm", "lab.clients.local_load", "8080", cwd=TOP, **pipes)
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.reader.start()
        self.goes_on()
        return self

    def goes_on(self):
        """Waits for some hundred further answers."""
        seen = len(self.lines)
        nspawn.wait_until(lambda: len(self.lines) >= seen + 3, "answers under load")

    def __exit__(self, *_):
        self.process.stdin.close()
        self.reader.join(60)
        self.process.wait(60)
        vars(self).update(json.loads(self.lines[-1]))
        print(f"{self.requests} requests, {len(self.failures)} failed, slowest {self.slowest:.2f} s")
