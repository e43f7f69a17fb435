"""The stand-in for Debian's archive: signed, with the packages that an untouched host lacks, and later versions that a test adds."""

import pathlib
import shutil

from lab.hosts import nspawn, plan
from tools import TOP

SUITE = "trixie"
URL = f"http://{plan.OPERATOR}/debian"
# The same as in Debian's archive: unattended-upgrades decides by it what it may install.
LABELS = {"Origin": "Debian", "Label": "Debian", "Suite": "stable", "Codename": SUITE, "Architectures": "amd64 arm64", "Components": "main"}


class Archive:
    """A folder that the operator's web server serves."""

    def __init__(self, folder, credentials):
        self.folder, self.credentials = folder, credentials

    def make(self):
        kept = pathlib.Path(nspawn.run(TOP / "lab/hosts/packages", timeout=1800).stdout.strip())
        (self.folder / "later").mkdir(parents=True)
        (self.folder / "pool").symlink_to(kept / "pool")
        self._index()

    def publish(self, *packages):
        """Adds later versions."""
        for package in packages:
            shutil.copy(package, self.folder / "later")
        self._index()

    def sources(self):
        key = "".join(f" {line or '.'}\n" for line in self.credentials.apt_public_key.read_text().splitlines())
        return f"Types: deb\nURIs: {URL}\nSuites: {SUITE}\nComponents: main\nSigned-By:\n{key}"

    def _index(self):
        release = self.folder / "dists" / SUITE
        architecture = nspawn.run("dpkg", "--print-architecture").stdout.strip()
        packages = release / f"main/binary-{architecture}/Packages"
        packages.parent.mkdir(parents=True, exist_ok=True)
        kept = (self.folder / "pool").resolve().parent / "Packages"
        packages.write_text(kept.read_text() + nspawn.run("apt-ftparchive", "packages", "later", cwd=self.folder).stdout)
        (release / "InRelease").unlink(missing_ok=True)
        options = [f"--option=APT::FTPArchive::Release::{name}={value}" for name, value in LABELS.items()]
        text = nspawn.run("apt-ftparchive", *options, "release", release).stdout
        home = self.credentials.folder / "archive-keys"
        home.mkdir(mode=0o700, exist_ok=True)
        gpg = ("gpg", "--homedir", home, "--batch", "--quiet")
        nspawn.run(*gpg, "--import", self.credentials.apt_key)
        nspawn.run(*gpg, "--clear-sign", "--output", release / "InRelease", input=text)
        nspawn.run("gpgconf", "--homedir", home, "--kill", "all")
        shutil.rmtree(home)
